// Keeps the page working without a network after the first visit.
//
// All files of one build are cached together, so that no page gets some of another build. scripts/build-site fills in VERSION, a hash
// of these files, SHELL, their names, and PARTS, the names of the programs. The weights are not here: the workers cache those by their hash.

const VERSION = "development";
const SHELL = [];
const PARTS = {};

const SCOPE = new URL("./", location.href);
// Several pages may share an origin and its caches.
const CACHES = `dalle-page-${SCOPE.pathname}-`;
const CACHE = CACHES + VERSION;

// As worker.js chooses the programs.
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 123, 123, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 1, 32, 2, 253, 133, 2,
  11,
]);

async function install() {
  const relaxed = WebAssembly.validate(RELAXED) ? "-relaxed" : "";
  const programs = ["decoder-cpu"];
  const config = await fetch("config.json", { cache: "no-cache" });
  const { model } = await config.clone().json();
  const cache = await caches.open(CACHE);
  await cache.put(new URL("config.json", SCOPE), config);
  if (model) {
    programs.push("prior-cpu");
    const folder = new URL(model.replace(/\/?$/, "/"), SCOPE);
    const manifest = await fetch(new URL("manifest.json", folder), { cache: "no-cache" });
    const { files } = await manifest.clone().json();
    await cache.put(new URL("manifest.json", folder), manifest);
    const small = files.filter(({ name }) => name.endsWith(".json"));
    await cache.addAll(small.map(({ url }) => new URL(url, folder)));
  }
  const parts = programs.map((name) => name + relaxed).map((name) => PARTS[name] ?? name);
  const names = parts.flatMap((name) => [`${name}.js`, `${name}_bg.wasm.gz`]);
  await cache.addAll([...SHELL, ...names].map((name) => new Request(name, { cache: "no-cache" })));
}

async function activate() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(CACHES) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await clients.claim();
}

// What may change while the build stays: from the network, else as it was last.
async function newest(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request.url, response.clone());
    return response;
  } catch (error) {
    const known = await cache.match(request.url);
    if (known) return known;
    throw error;
  }
}

async function known(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request.url, { ignoreSearch: true })) ?? fetch(request);
}

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(activate()));
// The page asks for it when the person wants the new version.
addEventListener("message", (event) => event.data === "activate" && skipWaiting());
addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(SCOPE.href)) return;
  const path = new URL(request.url).pathname.slice(SCOPE.pathname.length);
  // The server's interface.
  if (/^(v1|health|metrics)(\/|$)/.test(path)) return;
  event.respondWith(/(^config|\/manifest)\.json$/.test(path) ? newest(request) : known(request));
});
