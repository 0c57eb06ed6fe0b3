// Starts the page: finds WebGPU or says why there is none, opens the device, and hands it to the three parts.

import init, { Device } from "./pkg/wgpu_cross_entropy_web.js";
import { startBench } from "./bench.js";
import { startCheck } from "./check.js";
import { startDemo } from "./demo.js";

const byId = (id) => document.getElementById(id);

/// Shows what stands in the way, once.
function explain(title, text, hints = []) {
  byId("problem").hidden = false;
  document.body.classList.add("stuck");
  byId("problem-title").textContent = title;
  byId("problem-text").textContent = text;
  byId("problem-hints").replaceChildren(...hints.map((hint) => {
    const item = document.createElement("li");
    item.textContent = hint;
    return item;
  }));
}

function showDevice(state, name) {
  byId("device").className = `device ${state}`;
  byId("device-name").textContent = name;
}

// The wasm module calls this for errors that belong to no call: those of the device itself.
globalThis.reportDeviceError = (message) => {
  console.error(message);
  showDevice("failed", "GPU error");
  explain("The GPU reported an error", message, ["Reload the page to start anew."]);
};

const BROWSERS = [
  "Chrome and Edge have it on Windows, macOS, ChromeOS and Android; on Linux it may need chrome://flags/#enable-unsafe-webgpu.",
  "Safari has it from version 26, on Macs, iPhones and iPads.",
  "Firefox has it on Windows and on Macs with Apple silicon.",
];

const ADAPTERS = [
  "Hardware acceleration may be off in the browser's settings.",
  "On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu and #enable-vulkan.",
  "chrome://gpu, or about:support in Firefox, says what the browser makes of this GPU.",
];

/// The adapter's name as far as the browser gives it away, or null where there is no adapter.
async function findAdapter() {
  if (!globalThis.isSecureContext) {
    explain("This page is not served securely", "Browsers offer WebGPU over https and from localhost only.");
    return null;
  }
  if (!navigator.gpu) {
    explain("This browser has no WebGPU",
      "The demo, the self-check and the bench compute on the GPU through WebGPU, which this browser does not offer.", BROWSERS);
    return null;
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    explain("No GPU was found", "This browser has WebGPU, but it offers no adapter on this device: the GPU or its driver may be blocked.", ADAPTERS);
    return null;
  }
  const { vendor, architecture, device, description } = adapter.info ?? {};
  return description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed GPU";
}

/// Only one part computes at a time: two would spoil each other's times.
class Turns {
  #stop = null;

  /// Asks whoever computes to stop, and takes over.
  take(stop) {
    this.#stop?.();
    this.#stop = stop;
  }

  release(stop) {
    if (this.#stop === stop) this.#stop = null;
  }
}

async function start() {
  const name = await findAdapter();
  if (name === null) {
    showDevice("failed", "No WebGPU");
    byId("webgpu-state").textContent = "not available";
    return;
  }
  await init();
  const device = await Device.open();
  showDevice("ready", name);
  byId("webgpu-state").textContent = name;
  const limits = device.limits();
  for (let i = 0; i < limits.length; i += 2) {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = limits[i];
    value.textContent = limits[i + 1];
    byId("limits").append(term, value);
  }
  const turns = new Turns();
  startDemo(device, turns);
  startCheck(device, turns);
  startBench(device, turns, `${name} (BrowserWebGpu)`);
}

start().catch((error) => {
  console.error(error);
  showDevice("failed", "Not started");
  explain("The page could not start", String(error?.message ?? error));
});
