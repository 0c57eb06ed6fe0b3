// The bench: runs line by line, and draws the chart and the table as they come.

import { Bench } from "./pkg/wgpu_cross_entropy_web.js";

const byId = (id) => document.getElementById(id);

/// The most logits of a batch: 128 MiB of `f32`. Phones get a quarter, for the page must live in their memory.
const MOST_LOGITS = 1 << 25;
const mostLogits = () => (matchMedia("(pointer: coarse)").matches ? MOST_LOGITS >> 2 : MOST_LOGITS);

const digits = (value, count = 3) =>
  value >= 10 ** (count - 1) ? Math.round(value).toString() : value.toPrecision(count);

const METRICS = {
  fraction: { text: (line) => `${digits(100 * line.ceiling_fraction)} %`, value: (line) => line.ceiling_fraction, most: () => 1,
    key: "Percent of what a shader reaches that moves as many bytes and does nothing else: a copy, or a read for the forward half. Longer is better." },
  gbps: { text: (line) => `${digits(line.gbps)} GB/s`, value: (line) => line.gbps, most: (lines) => Math.max(...lines.map((line) => line.gbps)),
    key: "Bytes that have to be moved, over time. Longer is better." },
  ms: { text: (line) => `${digits(line.ms)} ms`, value: (line) => line.ms, most: (lines) => Math.max(...lines.map((line) => line.ms)),
    key: "Time of a run. Shorter is better." },
};

const grouped = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");

/// `rows x classes`, or `outer x classes x inner`, as people write it.
const readable = (shape) => shape.split("x").map((length) => grouped(Number(length))).join(" × ");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function drawChart(lines) {
  const metric = METRICS[document.querySelector("input[name=metric]:checked").value];
  const most = metric.most(lines) || 1;
  const kernels = [...new Set(lines.map((line) => line.kernel))];
  const groups = kernels.map((kernel) => {
    const list = element("ol");
    list.append(...lines.filter((line) => line.kernel === kernel).map((line) => {
      const item = element("li", undefined, line.dtype === "f32" ? "" : "half");
      const bar = element("i");
      bar.style.setProperty("--value", Math.min(1, metric.value(line) / most));
      const label = line.dtype === "f32" ? line.shape : `${line.shape} ${line.dtype}`;
      item.append(element("span", label), bar, element("b", metric.text(line)));
      return item;
    }));
    const group = element("div");
    group.append(element("h3", kernel), list);
    return group;
  });
  byId("chart").replaceChildren(element("p", metric.key, "key"), ...groups);
}

function tableRow(line) {
  const row = element("tr");
  const kernel = element("th", line.kernel);
  kernel.scope = "row";
  row.append(kernel, element("td", line.shape), element("td", line.dtype), element("td", line.strategy),
    element("td", digits(line.ms), "number"), element("td", digits(line.gbps), "number"),
    element("td", `${digits(100 * line.ceiling_fraction)} %`, "number"));
  return row;
}

export function startBench(device, turns, adapter) {
  const [run, stop, save, progress, result, failures, output] =
    ["run", "stop", "save", "progress", "result", "failures", "output"].map((part) => byId(`bench-${part}`));
  let stopped = false;
  let report = null;
  let lines = [];
  const halt = () => { stopped = true; };

  async function runAll() {
    result.textContent = "Measuring a copy …";
    const bench = await Bench.open(device, mostLogits());
    const total = bench.runs();
    let failed = 0;
    for (let index = 0; index < total && !stopped; index++) {
      const [kernel, shape, dtype, why] = bench.title(index);
      result.textContent = `${index + 1} of ${total}: ${kernel}, ${shape}, ${dtype} (${why})`;
      try {
        const line = JSON.parse(await bench.run(index));
        line.shape = readable(line.shape);
        lines.push(line);
        byId("figures").append(tableRow(line));
        output.hidden = false;
        drawChart(lines);
      } catch (error) {
        failed += 1;
        failures.append(element("li", `${kernel}, ${shape}, ${dtype}: not timed: ${error?.message ?? error}`));
        console.error(error);
      }
      progress.value = (index + 1) / total;
    }
    report = bench.report(adapter);
    bench.free();
    save.disabled = lines.length === 0;
    result.className = `result ${failed ? "failed" : stopped ? "" : "passed"}`;
    result.textContent = stopped ? `Stopped after ${lines.length} of ${total}.`
      : failed ? `${lines.length} of ${total} timed, ${failed} wrong.`
      : `All ${total} are right, and timed.`;
  }

  run.disabled = false;
  stop.addEventListener("click", halt);
  save.addEventListener("click", () => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([report, "\n"], { type: "application/json" }));
    link.download = "wgpu-cross-entropy-bench.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelectorAll("input[name=metric]").forEach((choice) =>
    choice.addEventListener("change", () => drawChart(lines)));
  run.addEventListener("click", async () => {
    turns.take(halt);
    stopped = false;
    lines = [];
    run.disabled = true;
    stop.disabled = false;
    save.disabled = true;
    progress.hidden = false;
    progress.value = 0;
    output.hidden = true;
    result.className = "result";
    byId("figures").replaceChildren();
    failures.replaceChildren();
    try {
      await runAll();
    } catch (error) {
      console.error(error);
      result.className = "result failed";
      result.textContent = `The bench broke off: ${error?.message ?? error}`;
    } finally {
      turns.release(halt);
      progress.hidden = true;
      run.disabled = false;
      stop.disabled = true;
    }
  });
}
