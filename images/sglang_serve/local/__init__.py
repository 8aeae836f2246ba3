"""One endpoint on this machine: what `kubectl sglang run` and the tests start, in the engine environment.

    python -m sglang_serve.local

**In**, on stdin, one line of JSON (`Spec`): the parsed `serveConfigV2` of the rendered RayService, which is deployed as
it is but for the address it listens on, and the literal environment of the rendered pod.

**Out**, on stdout, one JSON object per line:

    {"event": "progress", "step": "model", "message": "…", "replica": "…"}  steps below
    {"event": "ready", "url": "http://127.0.0.1:8000"}
    {"event": "status", "status": "UNHEALTHY", "message": "…"}              a change after it was ready
    {"event": "failed", "reason": "PortInUse", "message": "…", "remedy": "…"}

Steps are `ray`, those of a replica (`sglang_serve.progress`) and `stop`.

The log of everything (Ray, Serve, engine) goes to stderr. It ends on SIGINT, on SIGTERM, or when stdin closes (whoever
started it died): running streams may finish within `grace_seconds`, a second signal ends at once. It leaves no process
and no file: all files of Ray, HAProxy and the engine lie in one directory below /tmp, and orphans are adopted to be
killed. Exit codes: 0 stopped on request, 3 failed.
"""
