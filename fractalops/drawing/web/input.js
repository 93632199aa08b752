// Pointers and keys.

/** Return the position of a pointer on the stage, in CSS pixels. */
function place({ clientX, clientY }) {
  const { left, top } = canvas.getBoundingClientRect();
  return { x: clientX - left, y: clientY - top };
}

/** Begin the gesture of the pointers that are down: two pinch, one drags a frame or the view. */
function press(event) {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  if (pointers.size > 1) {
    if (gesture?.before) change(gesture.before); // the first finger was part of the pinch and must not move a frame
    gesture = { kind: "pinch", ...span() };
    return;
  }
  const { x, y } = place(event);
  gesture = { ...frames.hit(shown ? system.maps : null, chosen, x, y), x, y, view, moved: false };
  if (gesture.kind === "pan") return;
  choose(gesture.map);
  const from = system.maps[gesture.map];
  Object.assign(gesture, { before: system.maps, from, middle: frames.middle(from) });
}

/** Return the midpoint { x, y } of two pointers and their distance `length`. */
function span() {
  const [one, other] = pointers.values();
  return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, length: Math.hypot(one.x - other.x, one.y - other.y) };
}

function drag(event) {
  if (!pointers.has(event.pointerId)) {
    const { x, y } = place(event);
    canvas.dataset.over = frames.hit(shown ? system.maps : null, chosen, x, y).kind.replace("pan", "");
    return;
  }
  const to = place(event);
  pointers.set(event.pointerId, to);
  if (gesture === null) return;
  if (gesture.kind === "pinch") {
    pinch();
    return;
  }
  gesture.moved ||= Math.hypot(to.x - gesture.x, to.y - gesture.y) > MOVED;
  if (!gesture.moved) return;
  canvas.dataset.over = gesture.kind;
  const scale = scaleNow();
  const [byU, byV] = [(to.x - gesture.x) / scale, (to.y - gesture.y) / scale];
  if (gesture.kind === "pan") {
    look({ u: gesture.view.u - byU, v: gesture.view.v - byV });
  } else if (gesture.kind === "move") {
    const [a, b, c, d, e, f] = gesture.from;
    changeMap(gesture.map, [a, b, c, d, e + byU, f + byV]);
  } else {
    const [x, y] = gesture.middle;
    const angle = Math.atan2(to.y - y, to.x - x) - Math.atan2(gesture.y - y, gesture.x - x);
    const factor = Math.hypot(to.x - x, to.y - y) / Math.hypot(gesture.x - x, gesture.y - y);
    changeMap(gesture.map, scaleAndTurn(gesture.from, frames.pivot, factor, angle));
  }
}

function pinch() {
  if (pointers.size < 2) return;
  const now = span();
  const scale = scaleNow();
  view = { ...view, u: view.u - (now.x - gesture.x) / scale, v: view.v - (now.y - gesture.y) / scale };
  zoom(gesture.length > 0 ? now.length / gesture.length : 1, now.x, now.y);
  Object.assign(gesture, now);
}

/** End a gesture. A tap chooses the frame at its position. */
function release(event) {
  pointers.delete(event.pointerId);
  if (event.type === "pointerup" && gesture?.kind === "pan" && !gesture.moved && shown) {
    choose(frames.around(system.maps, gesture.x, gesture.y));
  }
  gesture = null;
  delete canvas.dataset.over;
}

function wheel(event) {
  event.preventDefault();
  const { x, y } = place(event);
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 16;
  const rate = event.ctrlKey ? 0.01 : 0.002; // browsers report a pinch on a touch pad as a wheel event with Ctrl
  zoom(Math.exp(-rate * lines * Math.min(Math.max(event.deltaY, -400), 400)), x, y);
}

/** Cancel the drag of a map. Without a drag, clear the choice of a map. */
function escape() {
  if (gesture?.before) {
    change(gesture.before);
    gesture = null;
    return;
  }
  choose(-1);
  canvas.focus();
}

const KEYS = {
  "+": () => zoom(KEY_ZOOM),
  "=": () => zoom(KEY_ZOOM),
  "-": () => zoom(1 / KEY_ZOOM),
  0: () => look(start),
  "[": () => turnChosen(1, -KEY_TURN),
  "]": () => turnChosen(1, KEY_TURN),
  ",": () => turnChosen(1 / KEY_SCALE, 0),
  ".": () => turnChosen(KEY_SCALE, 0),
  Escape: escape,
  f: showFrames,
  r: reset,
  s: save,
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function type(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
  const arrow = ARROWS[event.key];
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (arrow) {
    const step = (event.shiftKey ? LONG_STEP : STEP) * Math.min(stage.clientWidth, stage.clientHeight);
    move(arrow[0] * step, arrow[1] * step);
  } else if (action) action();
  else return;
  event.preventDefault();
}

canvas.addEventListener("pointerdown", press);
canvas.addEventListener("pointermove", drag);
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("wheel", wheel, { passive: false });
document.addEventListener("keydown", type);
setUp();
