// Mouse, fingers and keys on the canvas.

const STEP = 1.25; // of a key or a button
const SHIFT = 64; // pixels of style that an arrow key moves

/** Wheel, drag, pinch and double click on the stage. */
export function followPointers(stage) {
  const { canvas } = stage;
  const pointers = new Map();
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * stage.ratio, (event.clientY - box.top) * stage.ratio];
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    if (!b) return { at: a, length: 0 };
    const at = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    return { at, length: Math.hypot(a[0] - b[0], a[1] - b[1]) };
  };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0022; // a pinch on a touchpad is a wheel with Ctrl
    const turn = Math.min(Math.max(event.deltaY * unit, -400), 400);
    stage.zoomTo(stage.view.zoom * Math.exp(-turn * speed), ...spot(event));
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, spot(event));
    canvas.classList.add("moving");
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = spread();
    pointers.set(event.pointerId, spot(event));
    const after = spread();
    stage.pan(after.at[0] - before.at[0], after.at[1] - before.at[1]);
    if (before.length && after.length) {
      stage.zoomTo(stage.view.zoom * (after.length / before.length), ...after.at);
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) canvas.classList.remove("moving");
    });
  }
  canvas.addEventListener("dblclick", () => stage.fit());
}

/** Zoom and move by keys; others are looked up in `actions`. */
export function followKeys(stage, actions) {
  const keys = {
    "+": () => stage.zoomTo(stage.view.zoom * STEP),
    "=": () => stage.zoomTo(stage.view.zoom * STEP),
    "-": () => stage.zoomTo(stage.view.zoom / STEP),
    0: () => stage.fit(),
    1: () => stage.zoomTo(1),
    ArrowLeft: () => stage.pan(SHIFT * stage.ratio, 0),
    ArrowRight: () => stage.pan(-SHIFT * stage.ratio, 0),
    ArrowUp: () => stage.pan(0, SHIFT * stage.ratio),
    ArrowDown: () => stage.pan(0, -SHIFT * stage.ratio),
    ...actions,
  };
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("dialog *, [role=slider]")) return;
    if (event.target.matches?.("input") && event.key.startsWith("Arrow")) return;
    const action = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** The divider between the two sides: drag it, or move it by arrow keys. */
export function followDivider(element, canvas, change) {
  let at = 0.5;
  const move = (to) => {
    at = Math.min(Math.max(to, 0), 1);
    element.style.left = `${100 * at}%`;
    element.setAttribute("aria-valuenow", String(Math.round(100 * at)));
    change(at);
  };
  element.addEventListener("pointerdown", (event) => element.setPointerCapture(event.pointerId));
  element.addEventListener("pointermove", (event) => {
    if (!element.hasPointerCapture(event.pointerId)) return;
    const box = canvas.getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  });
  element.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (by) move(at + by);
  });
  return () => move(at);
}
