// The decoder worker before its WebAssembly runs.
//
// It takes the page's first message, downloads the program with progress in bytes, probes the WebGPU adapter, and calls `run` of
// decoder.js. Messages have the form [json, buffer]; see dalle_shared::DecoderReport.

const first = new Promise((resolve) => {
  addEventListener("message", (event) => resolve(event.data[0]), { once: true });
});

const send = (report) => postMessage([JSON.stringify(report), null]);

// wgpu does not request the feature "subgroups", but its shaders use it on adapters that have it, and would all be invalid.
if (globalThis.GPUAdapter) {
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = function (descriptor = {}) {
    const features = [...(descriptor.requiredFeatures ?? [])];
    if (this.features.has("subgroups")) features.push("subgroups");
    return requestDevice.call(this, { ...descriptor, requiredFeatures: features });
  };
}

// What dalle_decoder_worker::probe::Adapter reads, or null.
async function probe() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return null;
  const info = adapter.info ?? {};
  const words = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
  const name = info.description || [info.vendor, info.architecture].filter(Boolean).join(" ") || "of unknown make";
  return {
    name,
    software:
      Boolean(info.isFallbackAdapter ?? adapter.isFallbackAdapter) ||
      /swiftshader|llvmpipe|lavapipe|basic render/i.test(words.join(" ")),
    timestamp_query: adapter.features.has("timestamp-query"),
    storage_binding: adapter.limits.maxStorageBufferBindingSize,
    workgroup_storage: adapter.limits.maxComputeWorkgroupStorageSize,
    workgroup_invocations: adapter.limits.maxComputeInvocationsPerWorkgroup,
  };
}

// The program as a response that reports its progress while the browser compiles it. The file is fetched compressed, so that its
// size is known and any host will do.
async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new TypeError(`the server answered ${response.status} when asked for ${url.pathname}`);
  const encoded = response.headers.has("content-encoding");
  // If the host compresses by itself, the length on the wire is not that of the bytes here.
  const length = encoded ? null : response.headers.get("content-length");
  const total = length && Number(length);
  let loaded = 0;
  let reported = -Infinity;
  const counter = new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.byteLength;
      if (performance.now() - reported > 50) {
        reported = performance.now();
        send({ type: "progress", part: "program", loaded, total });
      }
      controller.enqueue(chunk);
    },
    flush: () => send({ type: "progress", part: "program", loaded, total: loaded }),
  });
  const counted = response.body.pipeThrough(counter);
  const bytes = encoded ? counted : counted.pipeThrough(new DecompressionStream("gzip"));
  return new Response(bytes, { headers: { "content-type": "application/wasm" } });
}

try {
  const [decoder, bytes] = await Promise.all([
    import("./decoder.js"),
    download(new URL("decoder_bg.wasm.gz", import.meta.url)),
  ]);
  const program = await decoder.default({ module_or_path: bytes });
  // Once: see frontend/worker/build.rs.
  program.__wasm_call_ctors();
  await decoder.run(await first, JSON.stringify(await probe()));
} catch (error) {
  // A network failure is a TypeError; a RangeError or a trap means that the program got no memory.
  const memory = error instanceof RangeError || error instanceof WebAssembly.RuntimeError;
  const reason = memory ? "memory" : error instanceof TypeError ? "download" : "fault";
  send({ type: "failed", reason, message: `the decoder program could not be started: ${error.message ?? error}` });
}
