// The page: the view, the chosen map, and the actions of pointers, keys and controls.

const FILL = 0.94; // share of the stage that the whole picture takes
const MOST_PIXELS = 1.6e6; // most pixels of the canvas, so that the picture is fine within a second
const [LEAST_ZOOM, MOST_ZOOM] = [0.2, 1e12];
const SLICE = 12; // milliseconds of drawing points per animation frame
const NEXT_IMAGE = 1.4; // a new image is shown when the points have grown by this factor
const DRAFT_POINTS = 2; // points per pixel of a finished draft
const MOVED = 4; // a press that moves by at most this many CSS pixels is a tap
const [STEP, LONG_STEP] = [0.02, 0.1]; // steps of arrow keys without and with Shift, in shorter sides of the stage
const [KEY_ZOOM, KEY_SCALE, KEY_TURN] = [1.5, 1.05, Math.PI / 36];

const find = (id) => document.getElementById(id);
const parameters = JSON.parse(find("system").textContent);
const home = placement(parameters);
const channels = parameters.color === null ? 0 : 3;
const toRgb = ([red, green = red, blue = red]) => [red, green, blue]; // accepts one channel, too
const initial = {
  maps: toPicture(parameters),
  probabilities: parameters.probabilities,
  colors: parameters.color?.map(toRgb),
  ink: [1, 1, 1],
  background: toRgb(parameters.background),
};
const start = { u: home.width / 2, v: home.height / 2, zoom: 1 };

let system = initial;
let view = start;
let chosen = -1;
let shown = true; // whether the frames are shown
let density = 1; // canvas pixels per CSS pixel
let [stale, moved, waiting] = [true, true, false]; // the picture is outdated, the frames are outdated, a tick is due
let developed = 0; // points in the last image
let saving = false; // whether to save the picture when it is finished
let gesture = null;
const pointers = new Map(); // positions of the pointers that are down, by id

const stage = find("stage");
const canvas = find("picture");
const pen = canvas.getContext("2d");
const draft = new Picture(parameters, channels, home, 128);
const fine = new Picture(parameters, channels, home, 400);
let picture = draft; // the picture that is being drawn
const frames = new Frames(find("frames"), home, ([u, v]) => {
  const scale = scaleNow();
  return [(u - view.u) * scale + stage.clientWidth / 2, (v - view.v) * scale + stage.clientHeight / 2];
});

// Drawing

/** Return the number of CSS pixels per unit of the plane. */
function scaleNow() {
  return FILL * view.zoom * Math.min(stage.clientWidth / home.width, stage.clientHeight / home.height);
}

function schedule() {
  if (!waiting) requestAnimationFrame(tick);
  waiting = true;
}

/** Draw the picture again from the start, after a change of the system or the view. */
function redraw() {
  stale = true;
  redrawFrames();
}

function redrawFrames() {
  moved = true;
  schedule();
}

/** Show the points drawn so far again, after a change of colors only. */
function repaint() {
  for (const each of [draft, fine]) each.system = system;
  developed = 0;
  schedule();
}

/** Continue drawing for a moment: first a draft of half the size, which is finished sooner, then the fine picture. */
function tick() {
  waiting = false;
  if (moved) frames.draw(shown ? system.maps : null, chosen, density);
  moved = false;
  if (stale) begin(draft);
  stale = false;
  picture.work(SLICE);
  let busy = !picture.finished;
  if (picture === draft && (draft.finished || draft.landed >= DRAFT_POINTS * draft.width * draft.height)) {
    paint();
    begin(fine);
    busy = true; // even if the fine picture has no points, because its size differs from the draft's
  } else if (picture.finished || (picture.drawn >= NEXT_IMAGE * developed && (picture === draft || fine.presentable))) {
    paint();
  }
  canvas.setAttribute("aria-busy", String(busy));
  if (busy) schedule();
  else if (saving) {
    saving = false;
    canvas.toBlob((blob) => download(blob, `${document.title}.png`));
  }
}

function begin(which) {
  const whole = view.zoom === 1 && view.u === start.u && view.v === start.v && system.maps === initial.maps;
  picture = which;
  picture.restart(system, { ...view, scale: (scaleNow() * picture.width) / stage.clientWidth }, whole);
  developed = 0;
}

function paint() {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    [canvas.width, canvas.height] = [picture.width, picture.height];
  }
  pen.putImageData(picture.develop(), 0, 0);
  developed = picture.drawn;
  find("empty").hidden = picture.landed > 0 || !picture.finished;
  find("points").value = picture.landed;
  find("points").textContent = new Intl.NumberFormat("en", { notation: "compact" }).format(picture.landed);
}

function resize() {
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  if (width === 0 || height === 0) return;
  density = Math.min(window.devicePixelRatio || 1, Math.sqrt(MOST_PIXELS / (width * height)));
  const pixels = (scale) => [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  draft.resize(...pixels(density / 2));
  fine.resize(...pixels(density));
  [frames.canvas.width, frames.canvas.height] = [fine.width, fine.height];
  redraw();
}

// View

function look(changes) {
  view = { ...view, ...changes };
  const exponent = Math.floor(Math.log10(view.zoom));
  find("zoom").value = view.zoom;
  const [short, long] = [Number(view.zoom.toPrecision(3)), (view.zoom / 10 ** exponent).toFixed(1)];
  find("zoom").innerHTML = exponent < 4 ? `${short}×` : `${long} × 10<sup>${exponent}</sup>`;
  redraw();
}

/** Zoom by a factor about a point of the stage, in CSS pixels, which does not move. */
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const [awayU, awayV] = [x - stage.clientWidth / 2, y - stage.clientHeight / 2];
  const before = scaleNow();
  const [u, v] = [view.u + awayU / before, view.v + awayV / before];
  view = { ...view, zoom: Math.min(Math.max(view.zoom * factor, LEAST_ZOOM), MOST_ZOOM) };
  const scale = scaleNow();
  look({ u: u - awayU / scale, v: v - awayV / scale });
}

// Changes

/** Replace the maps of the system and adapt their probabilities. */
function change(maps) {
  system = { ...system, maps, probabilities: rescale(initial.probabilities, initial.maps, maps) };
  showChosen();
  redraw();
}

function changeMap(n, map) {
  change(system.maps.map((each, i) => (i === n ? map : each)));
}

function turnChosen(scale, angle) {
  if (chosen >= 0) changeMap(chosen, scaleAndTurn(system.maps[chosen], frames.pivot, scale, angle));
}

/** Move the chosen map by CSS pixels. If no map is chosen, move the view. */
function move(byX, byY) {
  const scale = scaleNow();
  if (chosen < 0) {
    look({ u: view.u + byX / scale, v: view.v + byY / scale });
    return;
  }
  const map = [...system.maps[chosen]];
  map[4] += byX / scale;
  map[5] += byY / scale;
  changeMap(chosen, map);
}

function choose(n) {
  chosen = n;
  showChosen();
  redrawFrames();
}

function reset() {
  system = initial;
  look(start);
  choose(-1);
  showColors();
  say("Reset");
}

// Files

function say(text) {
  find("status").textContent = text;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`Saved ${name}`);
}

/** Save the picture when it is finished. */
function save() {
  saving = true;
  schedule();
}

function exportParameters() {
  const { maps, probabilities, colors, background } = system;
  const changed = {
    ...(maps === initial.maps ? {} : { ...fromPicture(maps, parameters), probabilities }),
    ...(colors === initial.colors ? {} : { color: colors }),
    ...(background === initial.background ? {} : { background }),
  };
  const text = JSON.stringify({ ...parameters, ...changed });
  download(new Blob([text], { type: "application/json" }), `${document.title}.json`);
}

// Controls

const toHex = (color) => `#${color.map((value) => Math.round(255 * value).toString(16).padStart(2, "0")).join("")}`;
const fromHex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16) / 255);
const buttons = initial.maps.map((_, n) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = n + 1;
  button.setAttribute("aria-label", `Map ${n + 1} of ${initial.maps.length}`);
  button.append(...(channels ? [document.createElement("i")] : []));
  button.addEventListener("focus", () => choose(n));
  button.addEventListener("click", () => choose(n));
  return button;
});

function showChosen() {
  buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(n === chosen)));
  find("chosen").hidden = chosen < 0;
  find("choose").hidden = chosen >= 0;
  if (chosen < 0) return;
  find("chosen-name").textContent = `Map ${chosen + 1}`;
  find("chosen-share").textContent = `draws ${(100 * system.probabilities[chosen]).toPrecision(2)} % of the points`;
  if (channels) find("map-color").value = toHex(system.colors[chosen]);
}

function showColors() {
  find("ink").value = toHex(system.ink);
  find("background").value = toHex(system.background);
  stage.style.background = toHex(system.background);
  buttons.forEach((button, n) => channels && button.style.setProperty("--of-map", toHex(system.colors[n])));
}

function showFrames() {
  shown = !shown;
  find("show").setAttribute("aria-pressed", String(shown));
  redrawFrames();
}

function setColor(changes) {
  system = { ...system, ...changes };
  showColors();
  repaint();
}

function setUp() {
  const count = initial.maps.length;
  find("about").textContent =
    `${count} affine ${count === 1 ? "map creates" : "maps create"} this fractal. ` +
    "Each frame contains a copy of the whole fractal. Drag a frame to change the fractal.";
  find("maps").append(...buttons);
  find("map-color-row").hidden = channels === 0;
  find("ink-row").hidden = channels !== 0;
  find("colors").hidden = channels !== 0 && parameters.blend !== "mean"; // with "add" the background is always black
  const actions = {
    closer: () => zoom(KEY_ZOOM),
    farther: () => zoom(1 / KEY_ZOOM),
    whole: () => look(start),
    left: () => turnChosen(1, -KEY_TURN),
    right: () => turnChosen(1, KEY_TURN),
    smaller: () => turnChosen(1 / KEY_SCALE, 0),
    larger: () => turnChosen(KEY_SCALE, 0),
    show: showFrames,
    save,
    reset,
    export: exportParameters,
  };
  for (const [id, action] of Object.entries(actions)) find(id).addEventListener("click", action);
  find("ink").addEventListener("input", ({ target }) => setColor({ ink: fromHex(target.value) }));
  find("background").addEventListener("input", ({ target }) => setColor({ background: fromHex(target.value) }));
  find("map-color").addEventListener("input", ({ target }) => {
    setColor({ colors: system.colors.map((color, n) => (n === chosen ? fromHex(target.value) : color)) });
    redraw();
  });
  showColors();
  look(start);
  new ResizeObserver(resize).observe(stage);
  resize();
}
