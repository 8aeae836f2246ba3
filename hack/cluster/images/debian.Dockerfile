FROM scratch
ADD rootfs.tar /
ADD trusted.pem /etc/trusted.pem
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    SSL_CERT_FILE=/etc/trusted.pem \
    PIP_CERT=/etc/trusted.pem \
    UV_CACHE_DIR=/uv-cache
