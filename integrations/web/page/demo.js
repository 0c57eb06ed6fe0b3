// The demo: two trainings in lockstep, one with plain cross-entropy and one with the chosen loss, drawn as they go.

import { Lab } from "./pkg/wgpu_cross_entropy_web.js";

const byId = (id) => document.getElementById(id);

/// Steps of a training: enough for both networks to settle.
const STEPS = 700;
/// Steps between two pictures. More would be over too soon for the eye on a fast GPU.
const STEPS_A_FRAME = 2;
/// With reduced motion there is a picture a second, of so many steps.
const STEPS_A_STILL = 100;
/// The points of each class that are drawn, at most: the common class would cover the rest.
const DRAWN = 700;

const percent = (value) => `${Math.round(100 * value)} %`;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
const nextFrame = () => new Promise((done) => {
  // A page in the background gets no frames.
  if (document.hidden) setTimeout(done, 250); else requestAnimationFrame(done);
});

/// A colour of the style sheet as [red, green, blue].
function colourOf(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return colour;
}

/// Draws points and decision regions on a canvas.
class Picture {
  constructor(canvas, about, points, labels) {
    Object.assign(this, { canvas, about, points, labels });
    this.grid = new OffscreenCanvas(about.grid, about.grid);
    // Class by class there would be a common class on top; one after the other, the rare ones lie above.
    this.drawn = about.names.map((_, index) => {
      const rows = [...labels.keys()].filter((row) => labels[row] === index);
      const every = Math.max(1, Math.floor(rows.length / DRAWN));
      return rows.filter((_, i) => i % every === 0);
    });
  }

  /// What was drawn last in other colours: of a training that is at work nothing can be asked.
  redraw(colours) {
    if (this.last) this.draw(...this.last, colours);
  }

  draw(regions, confidences, colours) {
    const { canvas, about, grid } = this;
    this.last = [regions, confidences];
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    if (regions) {
      const pixels = grid.getContext("2d");
      const image = pixels.createImageData(about.grid, about.grid);
      regions.forEach((index, i) => {
        const strength = 60 + 70 * Math.max(0, (confidences[i] / 255 - 0.25) / 0.75);
        image.data.set([...colours[index], strength], 4 * i);
      });
      pixels.putImageData(image, 0, 0);
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      context.drawImage(grid, 0, 0, width, height);
    }
    const place = (value, size) => (value / about.extent / 2 + 0.5) * size;
    this.drawn.forEach((rows, index) => {
      context.fillStyle = `rgb(${colours[index].join(" ")} / ${index === 0 ? 0.45 : 0.9})`;
      const radius = (index === 0 ? 0.0028 : 0.0048) * width;
      for (const row of rows) {
        context.beginPath();
        context.arc(place(this.points[2 * row], width), height - place(this.points[2 * row + 1], height), radius, 0, 7);
        context.fill();
      }
    });
  }
}

function cell(tag, text, scope) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (scope) made.scope = scope;
  return made;
}

/// A number with a bar.
function barCell(index) {
  const [outer, bar, number, line] = ["td", "div", "b", "i"].map((tag) => document.createElement(tag));
  bar.className = "bar";
  line.style.setProperty("--colour", `var(--class-${index})`);
  bar.append(number, line);
  outer.append(bar);
  outer.show = (value) => {
    number.textContent = value === null ? "–" : percent(value);
    line.style.setProperty("--value", value ?? 0);
  };
  return outer;
}

export function startDemo(device, turns) {
  const lab = new Lab(device);
  const about = JSON.parse(lab.about());
  const classes = about.names.length;
  const [points, labels] = [lab.points(), lab.labels()];
  const sides = ["plain", "yours"].map((name) => ({
    name,
    picture: new Picture(byId(name), about, points, labels),
    mean: byId(`${name}-mean`),
    accuracy: byId(`${name}-accuracy`),
    cells: [],
    training: null,
  }));
  const [toggle, restart, progress] = ["toggle", "restart", "progress"].map((part) => byId(`demo-${part}`));

  // The controls, from what the crate offers.
  const schemes = Lab.schemes();
  for (let i = 0; i < schemes.length; i += 2) byId("scheme").append(new Option(schemes[i + 1], schemes[i]));
  byId("scheme").value = "balanced";
  const costInputs = [];
  byId("own-costs-head").append(document.createElement("tr"));
  byId("own-costs-head").firstChild.append(cell("th", "true \u2193  said \u2192", "col"), ...about.names.map((name) => cell("th", name, "col")));
  for (const truth of about.names) {
    const row = document.createElement("tr");
    row.append(cell("th", truth, "row"));
    for (const said of about.names) {
      const input = Object.assign(document.createElement("input"), { type: "number", min: 0, max: 1000, step: "any", value: 1 });
      input.setAttribute("aria-label", `A row of class ${truth}, said to be ${said}`);
      costInputs.push(input);
      const holder = document.createElement("td");
      holder.append(input);
      row.append(holder);
    }
    byId("own-costs-body").append(row);
  }
  about.names.forEach((name, index) => {
    const row = document.createElement("tr");
    const head = cell("th", "", "row");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `var(--class-${index})`;
    head.append(swatch, name);
    sides.forEach((side) => side.cells.push(barCell(index)));
    row.append(head, cell("td", percent(about.shares[index])), ...sides.map((side) => side.cells[index]));
    byId("recalls").append(row);
  });

  /// The cost matrix, true class by true class; null where all costs are 1.
  function costs() {
    const last = classes - 1;
    const of = {
      none: () => 1,
      miss: (truth, said) => (truth === last && said !== last ? 20 : 1),
      alarm: (truth, said) => (truth === 0 && said !== 0 ? 5 : 1),
      own: (truth, said) => Math.max(0, Number(costInputs[truth * classes + said].value) || 0),
    }[byId("cost").value];
    const values = about.names.flatMap((_, truth) => about.names.map((_, said) => of(truth, said)));
    return values.every((value) => value === 1) ? null : values;
  }

  function settings() {
    return { scheme: byId("scheme").value, focal_gamma: Number(byId("gamma").value), cost: costs() };
  }

  /// The loss in a few words, for the head of the picture.
  function titleOf({ scheme, focal_gamma: gamma, cost }) {
    const parts = [];
    if (scheme !== "none") parts.push(byId("scheme").selectedOptions[0].text);
    if (cost) parts.push("costs");
    if (gamma) parts.push(`gamma ${gamma}`);
    return parts.join(", ") || "The same loss";
  }

  let colours = [];
  const takeColours = () => { colours = about.names.map((_, index) => colourOf(`--class-${index}`)); };

  function drawSide(side) {
    const started = side.step > 0;
    side.picture.draw(started ? side.training.regions() : null, started ? side.training.confidences() : null, colours);
  }

  function showState(side, state) {
    side.cells.forEach((bar, index) => bar.show(state ? state.recalls[index] : null));
    const number = (value) => {
      const made = document.createElement("b");
      made.textContent = value === null ? "–" : percent(value);
      return made;
    };
    const mean = state && state.recalls.reduce((sum, recall) => sum + recall, 0) / classes;
    side.mean.replaceChildren(number(mean));
    side.accuracy.replaceChildren(number(state ? state.accuracy : null));
  }

  let step = 0;
  // The loop that is running, if any; a loop ends when it finds another one here.
  let running = null;
  let ended = Promise.resolve();

  function setUp() {
    const chosen = settings();
    step = 0;
    progress.value = 0;
    sides.forEach((side) => {
      side.training?.free();
      const plain = { scheme: "none", focal_gamma: 0, cost: null };
      side.training = lab.train(JSON.stringify(side.name === "plain" ? plain : chosen));
      side.step = 0;
      showState(side, null);
      drawSide(side);
    });
    byId("yours-title").textContent = byId("yours-column").textContent = titleOf(chosen);
    byId("rust").textContent = sides[1].training.rust();
  }

  function showToggle() {
    toggle.textContent = running ? "Stop" : step >= STEPS ? "Train on" : step > 0 ? "Continue" : "Start";
  }

  async function loop(self, until) {
    while (running === self && step < until) {
      const still = reducedMotion.matches;
      const steps = Math.min(still ? STEPS_A_STILL : STEPS_A_FRAME, until - step);
      for (const side of sides) {
        const state = JSON.parse(await side.training.advance(steps));
        side.step = state.step;
        showState(side, state);
        drawSide(side);
      }
      step += steps;
      progress.value = Math.min(1, step / STEPS);
      await (still ? pause(1000) : nextFrame());
    }
  }

  const halt = () => { running = null; };

  function run() {
    const self = {};
    turns.take(halt);
    running = self;
    showToggle();
    const until = step >= STEPS ? step + STEPS : STEPS;
    ended = ended.then(() => loop(self, until)).catch((error) => {
      console.error(error);
      byId("rust").textContent = String(error?.message ?? error);
    }).finally(() => {
      if (running === self) running = null;
      turns.release(halt);
      showToggle();
    });
  }

  // Who began last; whoever began before and still waits gives way.
  let begun = 0;

  /// From the first step, once the loop that runs has noticed.
  async function begin(andRun) {
    const mine = ++begun;
    running = null;
    await ended;
    if (mine !== begun) return;
    try {
      setUp();
    } catch (error) {
      console.error(error);
      byId("rust").textContent = String(error?.message ?? error);
      return;
    }
    if (andRun) run(); else showToggle();
  }

  toggle.addEventListener("click", () => {
    if (running) halt(); else run();
    showToggle();
  });
  restart.addEventListener("click", () => begin(true));
  for (const id of ["scheme", "cost", "gamma"]) {
    byId(id).addEventListener("change", () => {
      byId("own-costs").hidden = byId("cost").value !== "own";
      begin(true);
    });
  }
  costInputs.forEach((input) => input.addEventListener("change", () => begin(true)));
  byId("gamma").addEventListener("input", () => { byId("gamma-value").textContent = byId("gamma").value; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    takeColours();
    sides.forEach(({ picture }) => picture.redraw(colours));
  });

  takeColours();
  byId("demo-controls").disabled = false;
  // By itself where motion is welcome; else at the press of a button.
  begin(!reducedMotion.matches);
}
