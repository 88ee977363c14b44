// OpenAI's official JavaScript client against a running dalle-server: in Node (`node client.mjs ADDRESS`), and in a page on another
// origin (`check(OpenAI, address)` from page.html). Started by run.py.

const PNG = "iVBORw0KGgo";

function expect(holds, what) {
    if (!holds) throw new Error(`expected ${what}`);
}

async function refused(client, param, parameters) {
    try {
        await client.images.generate(parameters);
    } catch (error) {
        expect(error.status === 400 && error.param === param, `an error that names ${param}, got ${error}`);
        expect(error.message.includes(param), `the sentence to name ${param}, got ${error.message}`);
        return;
    }
    throw new Error(`${JSON.stringify(parameters)} were accepted`);
}

export async function check(OpenAI, baseURL) {
    const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, dangerouslyAllowBrowser: true });
    const answer = await client.images.generate({ prompt: "a cat", n: 2, size: "512x512", seed: 7 });
    expect(answer.data.length === 2 && answer.data[0].b64_json.startsWith(PNG), "two PNGs");
    expect(answer.size === "512x512", "the size");

    const link = await client.images.generate({ prompt: "a cat", size: "512x512", seed: 7, response_format: "url" });
    const bytes = new Uint8Array(await (await fetch(link.data[0].url)).arrayBuffer());
    expect(bytes[1] === 0x50 && bytes[2] === 0x4e, "a PNG at the URL");

    const stream = await client.images.generate({ prompt: "a cat", seed: 7, stream: true, partial_images: 2 });
    const kinds = [];
    for await (const event of stream) {
        expect(event.b64_json.startsWith(PNG), "a PNG in each event");
        kinds.push(event.type.split(".")[1]);
    }
    expect(kinds.join() === "partial_image,partial_image,completed", `the events in order, got ${kinds}`);

    const { response } = await client.images.generate({ prompt: "a cat and a dog ".repeat(100) }).withResponse();
    expect(Number(response.headers.get("x-prompt-tokens-ignored")) > 0, "the number of ignored tokens in a header");

    const models = (await client.models.list()).data;
    expect(models.length === 1 && (await client.models.retrieve(models[0].id)).id === models[0].id, "one model");
    await refused(client, "n", { prompt: "a cat", n: 11 });
    await refused(client, "background", { prompt: "a cat", background: "transparent" });
    return "ok";
}

if (typeof process !== "undefined" && process.argv?.[2]) {
    const { createRequire } = await import("node:module");
    const OpenAI = createRequire(process.env.CLIENTS + "/")("openai");
    for (const base of ["/v1", ""]) await check(OpenAI, process.argv[2] + base);
    console.log("openai-node: ok");
}
