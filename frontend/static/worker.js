// A worker before its WebAssembly runs.
//
// It takes the page's first message, downloads the program with progress in bytes, probes the WebGPU adapter, and calls the
// program's `run`. The page chooses the program by the worker's name; see dalle_shared::WorkerProgram. Messages have the form
// [json, buffer]; see dalle_shared::DecoderReport.

// scripts/build-site fills in the names of the programs in the website's folder.
const PARTS = {};

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

// The smallest module with an instruction of relaxed SIMD: three v128 to f32x4.relaxed_madd of them.
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 123, 123, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 1, 32, 2, 253, 133, 2,
  11,
]);

// What dalle_decoder_worker::probe::Adapter reads, or null. A driver that does not answer counts as none.
async function probe() {
  const silence = new Promise((resolve) => setTimeout(resolve, 5000, null));
  const answer = navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const adapter = await Promise.race([answer, silence]);
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
  const relaxed = WebAssembly.validate(RELAXED) ? "-relaxed" : "";
  const names = { cpu: `decoder-cpu${relaxed}`, webgpu: "decoder-webgpu", prior: `prior-cpu${relaxed}` };
  // It is beside this file.
  const name = (PARTS[names[self.name]] ?? names[self.name]).split("/").pop();
  const [worker, bytes, adapter] = await Promise.all([
    import(`./${name}.js`),
    download(new URL(`${name}_bg.wasm.gz`, import.meta.url)),
    self.name === "prior" ? null : probe(),
  ]);
  const program = await worker.default({ module_or_path: bytes });
  // Once: see frontend/worker/webgpu/build.rs.
  program.__wasm_call_ctors?.();
  await worker.run(await first, JSON.stringify(adapter));
} catch (error) {
  // A network failure is a TypeError; a RangeError or a trap means that the program got no memory.
  const memory = error instanceof RangeError || error instanceof WebAssembly.RuntimeError;
  const reason = memory ? "memory" : error instanceof TypeError ? "download" : "fault";
  const what = self.name === "prior" ? "prior" : "decoder";
  send({ type: "failed", reason, message: `the ${what} program could not be started: ${error.message ?? error}` });
}
