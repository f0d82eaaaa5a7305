// The canvas: two sources side by side, marks and a heatmap over them, at any zoom.

import { Frame, Program, byteTexture, contextOf, cover } from "./gpu.js";
import { COMPOSE } from "./overlays.js";
import { Marks, Painter } from "./painter.js";
import { COVER } from "./shaders.js";

export const MOST_ZOOM = 64;
const SLICE = 60; // milliseconds of drawing between two looks at what else there is to do
const BUDGETS = [1e6, 3e8]; // Gaussians looked at in a slice, the least and the most
const SLOW = 6e6; // such a budget is a slow device's, which shows less often what is not complete:
const COMPOSED = 500; // after so many milliseconds
const EDGE = 48; // pixels of the picture that stay on the canvas
export const KINDS = { left: 0, right: 1, difference: 2 };

export class Stage {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onView: () => void}} calls onView is called when the view has changed
   */
  constructor(canvas, { onView }) {
    this.canvas = canvas;
    this.onView = onView;
    this.show = {
      kind: "left", divider: Infinity, gain: 4, strength: 1, density: 0, ellipses: false,
      centres: false, marksStrength: 1, ground: [0.1, 0.1, 0.1],
      checks: [0.8, 0.8, 0.8, 0.6, 0.6, 0.6],
    };
    this.view = { zoom: 1, origin: [0, 0] };
    this.fitted = true;
    this.budget = 4e6;
    this.composed = 0;
    this.settling = [];
    this.start();
    this.watchContext();
  }

  start() {
    this.gl = contextOf(this.canvas);
    this.composer = new Program(this.gl, COVER, COMPOSE);
    this.painters = [new Painter(this.gl), new Painter(this.gl)];
    this.marks = new Marks(this.gl);
    this.blank = byteTexture(this.gl, 1, 1, new Uint8Array(1));
    this.fence = null;
  }

  /** A device may take its context away; the page then says so. */
  watchContext() {
    this.lost = false;
    this.canvas.addEventListener("webglcontextlost", () => {
      this.lost = true;
      this.onLost?.();
    });
  }

  get sources() {
    return this.painters.map((painter) => painter.source);
  }

  /** Show a source on the left (0) or on the right (1). */
  setSource(side, source) {
    this.painters[side].setSource(source);
    if (side === 0) this.remark();
    this.changed();
  }

  /** Change what is shown: see the constructor. */
  set(changes) {
    Object.assign(this.show, changes);
    if (["ellipses", "centres", "strength"].some((name) => name in changes)) this.remark();
    this.changed();
  }

  /** Draw the Gaussians of the left source anew: other ones of them are shown. */
  redraw(side = 0) {
    this.painters[side].redraw();
    if (side === 0) this.remark();
    this.changed();
  }

  remark() {
    this.marked = false;
  }

  changed() {
    this.dirty = true;
    if (!this.queued) {
      this.queued = true;
      requestAnimationFrame(() => this.tick());
    }
  }

  /** Pixels of the screen for each pixel of style. */
  get ratio() {
    return window.devicePixelRatio || 1;
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const width = Math.max(1, Math.round(box.width * this.ratio));
    const height = Math.max(1, Math.round(box.height * this.ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    const [dx, dy] = [(width - this.canvas.width) / 2, (height - this.canvas.height) / 2];
    Object.assign(this.canvas, { width, height });
    if (this.fitted) this.fit();
    else this.setView(this.view.zoom, [this.view.origin[0] - dx, this.view.origin[1] - dy]);
  }

  tick() {
    this.queued = false;
    if (this.lost) return;
    this.resize();
    const idle = this.fenceIsDone();
    const { width, height } = this.canvas;
    for (const painter of this.painters) painter.setView(this.view, width, height);
    this.setMarks(width, height);
    const spent = idle ? this.work() : 0;
    if (spent) {
      this.fence = { sync: this.gl.fenceSync(this.gl.SYNC_GPU_COMMANDS_COMPLETE, 0),
        began: performance.now(), full: spent > this.budget / 2 };
      this.gl.flush();
    }
    const now = performance.now();
    if (spent) this.stale = true;
    const done = !this.waits();
    const wait = this.budget < SLOW ? COMPOSED : 0;
    if (this.dirty || (this.stale && (done || now - this.composed > wait))) {
      this.compose();
      Object.assign(this, { dirty: false, stale: false, composed: now });
    }
    if (this.fence || !done) this.later();
    else if (!this.isPending()) this.settling.splice(0).forEach((resolve) => resolve());
  }

  later() {
    if (this.awake) return;
    this.awake = setTimeout(() => {
      this.awake = 0;
      if (!this.queued) this.tick();
    }, 4);
  }

  /** Whether the device has done what it was told, and if so, how much it is told next. */
  fenceIsDone() {
    if (!this.fence) return true;
    const { gl } = this;
    const { sync, began, full } = this.fence;
    if (gl.getSyncParameter(sync, gl.SYNC_STATUS) !== gl.SIGNALED) return false;
    gl.deleteSync(sync);
    this.fence = null;
    const speed = SLICE / Math.max(1, performance.now() - began);
    if (speed < 1 || full) this.budget *= Math.min(Math.max(speed, 0.4), 2);
    this.budget = Math.min(Math.max(this.budget, BUDGETS[0]), BUDGETS[1]);
    return true;
  }

  /** Whether there is something that can be drawn now. */
  waits() {
    return this.marks.pending || this.painters.some(
      ({ source, view, pending }) => pending.length && source.ready(view));
  }

  isPending() {
    return this.marks.pending || this.painters.some(({ pending }) => pending.length);
  }

  work() {
    let spent = 0;
    for (const painter of this.painters) {
      if (spent < this.budget) spent += painter.step(this.budget - spent);
    }
    if (this.marks.pending && spent < this.budget) spent += this.marks.step(this.budget - spent);
    return spent;
  }

  setMarks(width, height) {
    const key = `${this.view.zoom} ${this.view.origin} ${width} ${height}`;
    if (this.marked === key) return;
    this.marked = key;
    const model = this.sources.find((source) => source?.settings);
    const kinds = ["ellipses", "centres"].filter((kind) => this.show[kind]);
    const lift = this.show.strength < 0.6 ? 1 : 0;
    this.marks.set(model, kinds, this.view, width, height, lift, this.ratio);
  }

  compose() {
    const { gl, show, view } = this;
    const [left, right] = this.painters;
    const source = left.source ?? right.source;
    const { width, height } = this.canvas;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.disable(gl.SCISSOR_TEST);
    const model = this.sources.find((candidate) => candidate?.density);
    const dense = model?.density;
    const marks = this.marks.front;
    this.composer.use({
      left: left.frame.texture, right: right.frame.texture,
      marks: marks ? marks.frame.texture : this.blank,
      dense: dense?.texture ?? this.blank,
      kind: right.source ? KINDS[show.kind] : 0,
      divider: right.source && show.kind === "left" ? Math.min(show.divider * width, 1e6) : 1e6,
      gain: show.gain, strength: show.strength, density: dense ? show.density : 0,
      marksView: marks ? this.marks.placement(view) : [1, 1, 0, 0],
      marksStrength: marks ? show.marksStrength : 0, origin: view.origin, pitch: 1 / view.zoom,
      size: source ? [source.width, source.height] : [0, 0],
      denseSize: dense ? [dense.side * dense.across, dense.side * dense.down] : [1, 1],
      frame: [width, height], ground: show.ground, checks: show.checks, check: 8 * this.ratio,
    });
    cover(gl);
  }

  // The view: how large a pixel of the picture is, and where its corner is.

  get shown() {
    return this.sources.find(Boolean);
  }

  fitZoom() {
    const source = this.shown;
    if (!source) return 1;
    const zoom = Math.min(
      this.canvas.width / source.width, this.canvas.height / source.height);
    return Math.min(Math.max(zoom, 1e-4), MOST_ZOOM);
  }

  /** All of the picture, as large as it can be; not above so many times its size. */
  fit(most = 8) {
    const source = this.shown;
    if (!source) return;
    const zoom = Math.min(this.fitZoom(), most);
    this.setView(zoom, [
      (source.width * zoom - this.canvas.width) / 2,
      (source.height * zoom - this.canvas.height) / 2,
    ]);
    this.fitted = true;
  }

  /** Change the zoom, and keep the point that is at (x, y) on the canvas. */
  zoomTo(zoom, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const least = Math.min(this.fitZoom() / 2, 1);
    const next = Math.min(Math.max(zoom, least), MOST_ZOOM);
    const factor = next / this.view.zoom;
    const [left, top] = this.view.origin;
    this.setView(next, [(left + x) * factor - x, (top + y) * factor - y]);
  }

  pan(dx, dy) {
    this.setView(this.view.zoom, [this.view.origin[0] - dx, this.view.origin[1] - dy]);
  }

  setView(zoom, origin) {
    const source = this.shown;
    const { width, height } = this.canvas;
    const kept = (at, extent, room) => Math.round(
      Math.min(Math.max(at, EDGE - room), extent * zoom - EDGE));
    this.view = { zoom, origin: source
      ? [kept(origin[0], source.width, width), kept(origin[1], source.height, height)]
      : [0, 0] };
    this.fitted = false;
    this.onView();
    this.changed();
  }

  /** Until all of the view is drawn. */
  settled() {
    this.changed();
    return new Promise((resolve) => this.settling.push(resolve));
  }

  /** What is on the canvas, as a PNG file. */
  toBlob() {
    this.tick();
    this.compose();
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  /**
   * Render a part of a source apart from the canvas, piece by piece.
   *
   * @param {Model} source
   * @param {number} zoom pixels for each of the picture's
   * @param {number[]} box left, top, width and height in those pixels
   * @param {(pixels: Uint8Array, box: number[]) => void} take called with the pixels of each piece
   *     and where they are in the box
   */
  async render(source, zoom, [left, top, width, height], take) {
    const side = 256;
    const frame = new Frame(this.gl, side, side);
    for (let y = 0; y < height; y += side) {
      for (let x = 0; x < width; x += side) {
        const view = { zoom, origin: [left + x, top + y] };
        for (let tries = 0; !source.ready(view) && tries < 6000; tries++) await soon(10);
        const [w, h] = [Math.min(side, width - x), Math.min(side, height - y)];
        frame.bind([0, 0, w, h]);
        source.draw(view);
        take(frame.pixels(w, h), [x, y, w, h]);
        await soon(0);
      }
    }
    frame.close();
  }
}

function soon(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
