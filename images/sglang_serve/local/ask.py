"""One question to an endpoint, as a client of OpenAI's API asks it, answered on stdout while it comes.

OPENAI_API_KEY=… python -m sglang_serve.local.ask http://127.0.0.1:8000 MODEL "What is the capital of France?"
"""

from __future__ import annotations

import os
import sys

from openai import DefaultHttpxClient, OpenAI, OpenAIError

LONGEST_ANSWER = 512  # tokens: a small model may never stop by itself


def ask(url: str, model: str, question: str) -> None:
    """Stream the answer to stdout. Temperature 0: the same question gets the same answer."""
    key = os.environ.get("OPENAI_API_KEY") or "none"
    direct = DefaultHttpxClient(trust_env=False)  # no proxy of the shell's: it is this machine
    client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=direct)
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=LONGEST_ANSWER,
        stream=True,
    )
    for chunk in stream:
        sys.stdout.write(chunk.choices[0].delta.content or "" if chunk.choices else "")
        sys.stdout.flush()
    sys.stdout.write("\n")


def main() -> None:
    """See the module's text. Exit code 1 with the error on stderr."""
    try:
        ask(*sys.argv[1:])
    except OpenAIError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
