// The self-check: fetches the golden cases once and runs them one by one.

import { Folder } from "./pkg/wgpu_cross_entropy_web.js";

const byId = (id) => document.getElementById(id);
const FOLDER = "golden/";

async function bytesOf(name) {
  const response = await fetch(FOLDER + name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/// `?kernels=workgroup` runs some cases of each op on the kernels for wide rows, whatever the device would get.
const workgroups = new URLSearchParams(location.search).get("kernels") === "workgroup";

export function startCheck(device, turns) {
  const [run, stop, progress, result, failures] =
    ["run", "stop", "progress", "result", "failures"].map((part) => byId(`check-${part}`));
  let golden = null;
  let stopped = false;
  const halt = () => { stopped = true; };

  function fail(message) {
    const item = document.createElement("li");
    item.textContent = message;
    failures.append(item);
  }

  async function fetchGolden() {
    result.textContent = "Fetching the cases …";
    const folder = new Folder(await bytesOf("index.json"));
    const names = folder.files();
    let fetched = 0;
    await Promise.all(names.map(async (name) => {
      folder.add(name, await bytesOf(name));
      progress.value = ++fetched / names.length;
    }));
    return folder.open();
  }

  async function runCases() {
    golden ??= await fetchGolden();
    const check = golden.check(device, workgroups);
    const counts = { passed: 0, failed: 0, skipped: 0, left_out: 0 };
    const total = check.cases();
    for (let index = 0; index < total && !stopped; index++) {
      const { case: name, verdict, messages } = JSON.parse(await check.run(index));
      counts[verdict] += 1;
      if (verdict === "failed") messages.forEach((message) => fail(`${name}: ${message}`));
      progress.value = (index + 1) / total;
      result.textContent = `${counts.passed} of ${check.expected()} cases passed, ${counts.failed} failed …`;
    }
    result.dataset.expected = check.expected();
    const wrong = stopped ? [] : check.miscounted();
    wrong.forEach(fail);
    const passed = counts.failed === 0 && wrong.length === 0;
    result.className = `result ${stopped ? "" : passed ? "passed" : "failed"}`;
    result.textContent = `${stopped ? "Stopped: " : ""}${counts.passed} passed, ${counts.failed} failed`
      + (stopped ? "" : passed ? ". This device computes what the frameworks compute." : ".");
    result.title = `${counts.skipped} more cases are of things that the crate does not do`;
    check.free();
  }

  run.disabled = false;
  stop.addEventListener("click", halt);
  run.addEventListener("click", async () => {
    turns.take(halt);
    stopped = false;
    run.disabled = true;
    stop.disabled = false;
    progress.hidden = false;
    progress.value = 0;
    result.className = "result";
    failures.replaceChildren();
    try {
      await runCases();
    } catch (error) {
      console.error(error);
      result.className = "result failed";
      result.textContent = `The self-check broke off: ${error?.message ?? error}`;
    } finally {
      turns.release(halt);
      progress.hidden = true;
      run.disabled = false;
      stop.disabled = true;
    }
  });
}
