// Starts the page's WebAssembly, or says why this browser cannot run it. Then lets the service worker keep the page for visits without
// a network.

const boot = document.getElementById("boot");

function refuse(what, remedy) {
  const texts = [what, remedy].map((text) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph;
  });
  boot.replaceChildren(...texts);
  boot.dataset.testid = "error";
  boot.setAttribute("role", "alert");
}

// Says that a newer build of the page is ready.
function offer(worker) {
  const box = document.createElement("div");
  box.className = "message notice update";
  box.dataset.testid = "update";
  box.setAttribute("role", "status");
  const text = document.createElement("p");
  text.textContent = "A new version of this page is ready.";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "secondary";
  button.dataset.testid = "update-use";
  button.textContent = "Use it";
  button.addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
    worker.postMessage("activate");
  });
  box.append(text, button);
  document.body.append(box);
}

async function keep() {
  // Absent where the page came over plain HTTP from another machine, and in some private windows.
  const registration = await navigator.serviceWorker?.register("sw.js").catch(() => null);
  if (!registration) return;
  const installed = (worker) => {
    // The first one replaces nothing.
    if (worker?.state === "installed" && navigator.serviceWorker.controller) offer(worker);
  };
  installed(registration.waiting);
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing;
    worker?.addEventListener("statechange", () => installed(worker));
  });
}

// The smallest module with a SIMD instruction: (func (result v128) (i8x16.splat (i32.const 0))).
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD) || typeof DecompressionStream === "undefined") {
  refuse(
    "This browser is too old for this page: it lacks WebAssembly with SIMD.",
    "Please use a version from 2023 or later of Chrome, Edge, Firefox or Safari (16.4).",
  );
} else {
  // After a trap, the page's WebAssembly cannot go on.
  addEventListener("error", ({ error }) => {
    if (error instanceof WebAssembly.RuntimeError) {
      document.body.prepend(boot);
      refuse("The page stopped because of an internal error.", "Reload it: a running generation continues.");
    }
  });
  try {
    const page = await import("./page.js");
    await page.default({ module_or_path: new URL("page_bg.wasm", import.meta.url) });
    boot.remove();
    keep();
  } catch (error) {
    refuse("The page could not be loaded.", `Check your connection and reload. (${error.message ?? error})`);
  }
}
