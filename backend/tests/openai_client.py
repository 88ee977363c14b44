"""OpenAI's official Python client against a running dalle-server, unchanged but for its address.

    python3 -m venv venv && venv/bin/pip install openai
    venv/bin/python backend/tests/openai_client.py http://127.0.0.1:8080
"""

import base64
import struct
import sys

import openai


def size(picture):
    """Width and height of a PNG in base64."""
    data = base64.b64decode(picture.b64_json, validate=True)
    assert data.startswith(b"\x89PNG\r\n\x1a\n"), data[:8]
    return struct.unpack(">II", data[16:24])


def refused(client, field, **arguments):
    try:
        client.images.generate(**arguments)
    except openai.BadRequestError as error:
        assert error.body["field"] == field, error.body
    else:
        raise AssertionError(f"{arguments} were accepted")


def main(address):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=600)

    answer = client.images.generate(prompt="a red apple")
    assert len(answer.data) == 1 and answer.created > 0
    width, height = size(answer.data[0])
    assert width == height > 0

    arguments = {"model": "dall-e-2", "prompt": "a cat", "n": 3, "size": f"{width}x{height}", "user": "me",
                 "quality": "standard", "response_format": "b64_json", "extra_body": {"seed": 7}}
    first, second = client.images.generate(**arguments), client.images.generate(**arguments)
    assert [size(picture) for picture in first.data] == [(width, height)] * 3
    assert first.data == second.data, "the same seed gives the same pictures"
    assert len({picture.b64_json for picture in first.data}) == 3, "samples differ"

    refused(client, "size", prompt="a cat", size="1024x1024")
    refused(client, "response_format", prompt="a cat", response_format="url")
    refused(client, "prompt", prompt="")
    refused(client, "colour", prompt="a cat", extra_body={"colour": "red"})
    print(f"openai {openai.__version__}: ok, pictures of {width}x{height}")


if __name__ == "__main__":
    main(sys.argv[1])
