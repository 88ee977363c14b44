"""OpenAI's official Python client against a running dalle-server, unchanged but for its address. Started by run.py."""

import base64
import struct
import sys
import urllib.request
import uuid

import openai


def size(png):
    """Width and height of a PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n"), png[:8]
    return struct.unpack(">II", png[16:24])


def png(image):
    return base64.b64decode(image.b64_json, validate=True)


def refused(client, param, **arguments):
    try:
        client.images.generate(**arguments)
    except openai.BadRequestError as error:
        assert (error.param, error.type, error.code) == (param, "invalid_request_error", "invalid_request"), error.body
        assert f"`{param}`" in error.message, error.message
    else:
        raise AssertionError(f"{arguments} were accepted")


def check(client):
    answer = client.images.generate(prompt="a red apple")
    assert len(answer.data) == 1 and answer.created > 0
    side, height = size(png(answer.data[0]))
    assert side == height > 0 and answer.size == f"{side}x{side}"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0

    arguments = {"model": "dall-e-2", "prompt": "a cat", "n": 3, "size": f"{side}x{side}", "user": "me",
                 "quality": "standard", "response_format": "b64_json", "extra_body": {"seed": 7}}
    first, second = client.images.generate(**arguments), client.images.generate(**arguments)
    assert [size(png(image)) for image in first.data] == [(side, side)] * 3
    assert first.data == second.data, "the same seed gives the same images"
    assert len({image.b64_json for image in first.data}) == 3, "samples differ"

    for wanted, expected in [("256x256", 256), ("1024x1024", 1024), ("1792x1024", 1024), ("auto", side)]:
        answer = client.images.generate(prompt="a cat", size=wanted)
        assert size(png(answer.data[0])) == (expected, expected), wanted
    assert len(client.images.generate(prompt="a cat", n=10).data) == 10

    arguments = {"prompt": "a cat", "extra_body": {"seed": 7}}
    answer = client.images.generate(response_format="url", **arguments)
    with urllib.request.urlopen(answer.data[0].url) as response:
        assert response.read() == png(client.images.generate(**arguments).data[0])

    events = list(client.images.generate(stream=True, partial_images=2, **arguments))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert png(events[2]) == png(client.images.generate(**arguments).data[0])
    assert events[2].usage.output_tokens > 0

    long = client.images.with_raw_response.generate(prompt="a cat and a dog " * 100)
    assert int(long.headers["x-prompt-tokens-ignored"]) > 0
    assert long.parse().data[0].revised_prompt.startswith("a cat and")

    models = client.models.list().data
    assert len(models) == 1 and client.models.retrieve(models[0].id) == models[0]
    try:
        client.models.retrieve("dall-e-2")
    except openai.NotFoundError as error:
        assert error.param == "model" and models[0].id in error.message
    else:
        raise AssertionError("an unknown model was found")

    key = {"Idempotency-Key": str(uuid.uuid4())}
    twice = [client.images.generate(prompt="a cat", extra_headers=key).data for _ in range(2)]
    assert twice[0] == twice[1], "no seed is given, but the second request joins the first"

    refused(client, "size", prompt="a cat", size="large")
    refused(client, "n", prompt="a cat", n=11)
    refused(client, "background", prompt="a cat", background="transparent")
    refused(client, "prompt", prompt="")
    refused(client, "colour", prompt="a cat", extra_body={"colour": "red"})


def main(address):
    for base in [f"{address}/v1", address, f"{address}/v1/"]:
        check(openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=600))
    print(f"openai-python {openai.__version__}: ok")


if __name__ == "__main__":
    main(sys.argv[1])
