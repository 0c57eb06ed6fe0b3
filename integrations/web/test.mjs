// Drives the built page in a real browser. Names of parts (page, demo, bench, golden, workgroup, without) run those
// alone. `--pictures FOLDER` photographs the page instead, on desktop and phone, light and dark, while it runs and when
// it is done.

import { createServer } from "node:http";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join, normalize, sep } from "node:path";

const { chromium } = createRequire(join(process.env.NODE_TOOLS, "x.js"))("playwright-core");
const dist = join(import.meta.dirname, "dist");
const pictures = process.argv[2] === "--pictures" ? process.argv[3] : null;

/// WebGPU on the software adapter that comes with Chromium, whatever GPU this machine has.
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];
const QUIET = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/// The longest that anything may take: a software GPU on a busy machine of two cores.
const PATIENCE = 20 * 60_000;

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".wasm": "application/wasm", ".json": "application/json" };

async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const file = join(dist, path.endsWith(sep) ? join(path, "index.html") : path);
    try {
      const bytes = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

const tally = { passed: 0, failed: 0 };

function report(name, problem) {
  tally[problem ? "failed" : "passed"] += 1;
  console.log(problem ? `FAILED ${name}: ${problem}` : `ok ${name}`);
}

/// A test is what a function finds wrong: a text, or nothing.
async function test(name, body) {
  const began = performance.now();
  let problem;
  try {
    problem = await body();
  } catch (error) {
    problem = error.message;
  }
  report(`${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`, problem);
}

async function withBrowser(flags, body) {
  const profile = await mkdtemp(join(tmpdir(), "wgpu-cross-entropy-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROME,
    headless: true,
    args: ["--no-sandbox", ...QUIET, ...flags],
    viewport: { width: 1200, height: 900 },
    acceptDownloads: true,
  });
  browser.setDefaultTimeout(PATIENCE);
  try {
    await body(browser);
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

/// A new tab on the page. What it says in the console, or throws, is kept as its errors.
async function open(browser, url, { ready = true, media } = {}) {
  const page = await browser.newPage();
  const errors = [];
  page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("requestfailed", (request) => errors.push(`${request.url()}: ${request.failure()?.errorText}`));
  await page.emulateMedia({ reducedMotion: "reduce", ...media });
  await page.goto(url);
  if (ready) await page.locator("#device.ready").waitFor();
  return { page, errors };
}

const noErrors = (errors) => (errors.length ? errors.slice(0, 5).join("\n") : undefined);

/// Runs the self-check; counts its cases one by one.
async function goldenCases(browser, url, name) {
  const { page, errors } = await open(browser, url);
  const counts = { passed: 0, failed: 0 };
  const tell = setInterval(async () => console.log(`   ${await page.locator("#check-result").textContent()}`), 30_000);
  await test(`${name}: the self-check ran to its end`, async () => {
    await page.locator("#check-run").click();
    await page.locator("#check-result.passed, #check-result.failed").waitFor();
    const text = await page.locator("#check-result").textContent();
    const found = text.match(/^(\d+) passed, (\d+) failed/);
    if (!found) return text;
    [counts.passed, counts.failed] = found.slice(1).map(Number);
    const expected = Number(await page.locator("#check-result").getAttribute("data-expected"));
    if (!(expected > 0) || counts.passed + counts.failed !== expected) return `${text}; ${expected} cases have to run`;
  });
  clearInterval(tell);
  for (const failure of await page.locator("#check-failures li").allTextContents()) console.log(`FAILED ${name}: ${failure}`);
  console.log(`${name}: ${counts.passed} golden cases passed, ${counts.failed} failed`);
  tally.passed += counts.passed;
  tally.failed += counts.failed;
  await test(`${name}: no errors in the console`, () => noErrors(errors));
  await page.close();
}

const recalls = (page, column) =>
  page.locator(`#recalls tr td:nth-of-type(${column}) b`).allTextContents().then((all) => all.map((text) => parseFloat(text) / 100));

async function demo(browser, url) {
  const { page, errors } = await open(browser, url);
  await test("demo: with reduced motion it waits to be started", async () => {
    const label = await page.locator("#demo-toggle").textContent();
    if (label !== "Start") return `the button says ${label}`;
  });
  await test("demo: balanced weights find the rare classes that plain cross-entropy gives up", async () => {
    await page.locator("#demo-toggle").click();
    await page.locator("#demo-toggle", { hasText: "Train on" }).waitFor();
    const [plain, yours] = [await recalls(page, 2), await recalls(page, 3)];
    console.log(`   recall of A to D: plain ${plain.join(", ")}; balanced ${yours.join(", ")}`);
    if (!(plain[0] > 0.95)) return `plain: recall of the common class is ${plain[0]}`;
    for (const rare of [2, 3]) {
      if (!(yours[rare] > 0.8 && yours[rare] > plain[rare] + 0.3)) return `class ${rare}: plain ${plain[rare]}, balanced ${yours[rare]}`;
    }
  });
  const values = await page.locator("#scheme option").evaluateAll((options) => options.map((option) => option.value));
  await test(`demo: every choice of weights trains (${values.length})`, async () => {
    if (values.length < 2) return values.join();
    for (const value of values) {
      await page.locator("#scheme").selectOption(value);
      const name = await page.locator("#scheme option:checked").textContent();
      await page.locator("#yours-title", { hasText: value === "none" ? "The same loss" : name }).waitFor();
      await page.waitForFunction(() => document.querySelector("#demo-progress").value > 0);
      const rust = await page.locator("#rust").textContent();
      if (!rust.startsWith("Spec") || rust.includes("..") !== (value !== "none")) return rust;
      await page.locator("#demo-toggle").click();
      await page.locator("#demo-toggle", { hasText: "Continue" }).waitFor();
    }
  });
  await test("demo: costs and gamma by keyboard, stop and restart", async () => {
    await page.locator("#cost").selectOption("miss");
    await page.locator("#gamma").focus();
    await page.keyboard.press("ArrowRight");
    await page.locator("#rust", { hasText: "focal_gamma: 0.5" }).waitFor();
    await page.waitForFunction(() => document.querySelector("#demo-progress").value > 0);
    const rust = await page.locator("#rust").textContent();
    if (!rust.includes("CostMatrix")) return rust;
    await page.locator("#demo-toggle").focus();
    await page.keyboard.press("Enter");
    await page.locator("#demo-toggle", { hasText: "Continue" }).waitFor();
    await page.locator("#demo-restart").press("Enter");
    await page.locator("#demo-toggle", { hasText: "Stop" }).waitFor();
    await page.locator("#demo-toggle").press("Enter");
  });
  await test("demo: no errors in the console", () => noErrors(errors));
  await page.close();
}

async function bench(browser, url) {
  const { page, errors } = await open(browser, url);
  await test("bench: stops when asked to, and keeps what it has", async () => {
    await page.locator("#bench-run").click();
    await page.locator("#figures tr").nth(1).waitFor();
    await page.locator("#bench-stop").click();
    await page.locator("#bench-result", { hasText: "Stopped after" }).waitFor();
  });
  await test("bench: every kernel is right and timed, and the JSON is what the native report reads", async () => {
    await page.locator("#bench-run").click();
    await page.locator("#bench-result.passed, #bench-result.failed").waitFor();
    const text = await page.locator("#bench-result").textContent();
    const total = Number(text.match(/^All (\d+) are right, and timed\.$/)?.[1]);
    if (!total) return `${text} ${await page.locator("#bench-failures").textContent()}`;
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#bench-save").click()]);
    const json = JSON.parse(await readFile(await download.path(), "utf8"));
    if (typeof json.adapter !== "string" || !(json.ceiling_gbps > 0)) return JSON.stringify(json).slice(0, 200);
    if (json.results.length !== total) return `${json.results.length} results of ${total}`;
    for (const line of json.results) {
      const texts = [line.kernel, line.dtype, line.strategy].every((value) => typeof value === "string" && value);
      const numbers = [line.rows, line.classes, line.ms, line.gbps, line.ceiling_fraction].every((value) => value > 0);
      if (!texts || !numbers) return JSON.stringify(line);
    }
    const rows = await page.locator("#figures tr").count();
    const bars = await page.locator("#chart li").count();
    if (rows !== total || bars !== total) return `${rows} rows and ${bars} bars for ${total} results`;
  });
  await test("bench: the chart shows each figure", async () => {
    for (const [metric, unit] of [["gbps", "GB/s"], ["ms", "ms"], ["fraction", "%"]]) {
      await page.locator(`input[value=${metric}]`).check();
      const first = await page.locator("#chart li b").first().textContent();
      if (!first.endsWith(unit)) return `${metric}: ${first}`;
    }
  });
  await test("bench: no errors in the console", () => noErrors(errors));
  await page.close();
}

/// Whether everything stays within the width of a phone.
const overflow = (page) => page.evaluate(() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1);
    return wide.map((e) => e.id || e.className || e.tagName).join(" ");
  }
});

/// Names of what can be used but says nothing to a screen reader.
const nameless = (page) => page.evaluate(() => [...document.querySelectorAll("button, select, input, progress, canvas")]
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 80)).join("\n"));

async function everywhere(browser, url) {
  const { page, errors } = await open(browser, url);
  await test("page: every control has a name", async () => await nameless(page) || undefined);
  await test("page: Tab reaches the controls in their order", async () => {
    const reached = [];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement.id));
    }
    const wanted = ["scheme", "cost", "gamma", "demo-toggle", "demo-restart", "check-run", "bench-run"];
    // Behind the last one the focus leaves the page and starts over.
    const known = reached.filter((id) => wanted.includes(id));
    if (known.slice(0, wanted.length).join() !== wanted.join()) return reached.join();
  });
  for (const width of [320, 390, 768]) {
    await test(`page: fits ${width} pixels`, async () => {
      await page.setViewportSize({ width, height: 844 });
      const wide = await overflow(page);
      if (wide) return `wider are ${wide}`;
    });
  }
  await test("page: no errors in the console", () => noErrors(errors));
  await page.close();
}

async function withoutWebgpu(url) {
  await withBrowser(["--disable-features=WebGPU"], async (browser) => {
    for (const [name, title] of [["no adapter", "No GPU was found"], ["no WebGPU", "This browser has no WebGPU"]]) {
      if (name === "no WebGPU") await browser.addInitScript(() => { delete Navigator.prototype.gpu; });
      const { page, errors } = await open(browser, url, { ready: false });
      await test(`${name}: the page says so and offers nothing that cannot work`, async () => {
        await page.locator("#problem").waitFor();
        const said = await page.locator("#problem-title").textContent();
        if (said !== title) return said;
        const visible = await page.locator("button:visible, select:visible, canvas:visible").count();
        if (visible) return `${visible} controls are still there`;
      });
      await test(`${name}: no errors in the console`, () => noErrors(errors));
      if (pictures) await photograph(page, name.replace(" ", "-").toLowerCase());
      await page.close();
    }
  });
}

async function photograph(page, name) {
  for (const [kind, width, height] of [["desktop", 1200, 900], ["phone", 390, 844]]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      await page.waitForTimeout(200);
      await page.screenshot({ path: join(pictures, `${name}-${kind}-${colorScheme}.png`), fullPage: true });
    }
  }
}

async function album(browser, url) {
  const { page } = await open(browser, url, { media: { reducedMotion: "no-preference" } });
  await page.waitForFunction(() => document.querySelector("#demo-progress").value > 0.1);
  await photograph(page, "demo-running");
  await page.locator("#demo-toggle", { hasText: "Train on" }).waitFor();
  await photograph(page, "demo-done");
  await page.locator("#bench-run").click();
  await page.locator("#figures tr").nth(8).waitFor();
  await photograph(page, "bench-running");
  await page.locator("#bench-result.passed, #bench-result.failed").waitFor();
  await page.locator("#check-run").click();
  await page.waitForFunction(() => document.querySelector("#check-progress").value > 0.1);
  await photograph(page, "check-running");
  await page.locator("#check-result.passed, #check-result.failed").waitFor();
  await photograph(page, "done");
  await page.close();
}

const PARTS = {
  page: everywhere,
  demo,
  bench,
  golden: (browser, url) => goldenCases(browser, url, "as the device gets them"),
  // What a GPU gets for wide rows, which a software adapter would not.
  workgroup: (browser, url) => goldenCases(browser, `${url}?kernels=workgroup`, "rows shared by workgroups"),
};

const wanted = pictures ? [] : process.argv.slice(2);
const wants = (part) => !pictures && (wanted.length === 0 || wanted.includes(part));

const server = await serve();
try {
  await withBrowser(WEBGPU, async (browser) => {
    if (pictures) await album(browser, server.url);
    for (const [part, run] of Object.entries(PARTS)) {
      if (wants(part)) await run(browser, server.url);
    }
  });
  if (pictures || wants("without")) await withoutWebgpu(server.url);
} catch (error) {
  report("the browser", error.message);
} finally {
  server.close();
}
console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
