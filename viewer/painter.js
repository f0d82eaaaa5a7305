// Draws a source for the present view, part by part, so that no draw keeps a device busy for long.

import { Frame, Program, cover } from "./gpu.js";
import { COVER, MOVE } from "./shaders.js";

const TILE = 128; // pixels a side
const LEAST_TILE = 8;
const MARK_COST = 60; // of a mark, in Gaussians looked at

/** The part of a frame where a picture is: x, y, width, height. */
function pictureBox(source, { zoom, origin }, { width, height }) {
  const [x0, y0] = [Math.max(0, -origin[0]), Math.max(0, -origin[1])];
  const x1 = Math.min(width, Math.ceil(source.width * zoom) - origin[0]);
  const y1 = Math.min(height, Math.ceil(source.height * zoom) - origin[1]);
  return [x0, y0, Math.max(0, x1 - x0), Math.max(0, y1 - y0)];
}

function common([x, y, w, h], [left, top, width, height]) {
  const [x0, y0] = [Math.max(x, left), Math.max(y, top)];
  const [x1, y1] = [Math.min(x + w, left + width), Math.min(y + h, top + height)];
  return [x0, y0, Math.max(0, x1 - x0), Math.max(0, y1 - y0)];
}

/** A source on the canvas: what is not drawn yet shows what was there before, moved. */
export class Painter {
  constructor(gl) {
    this.gl = gl;
    this.mover = new Program(gl, COVER, MOVE);
    this.source = null;
    this.view = null;
    this.pending = []; // tiles: x, y, width, height, the next one last
  }

  setSource(source) {
    const same = source && this.source && source.width === this.source.width
      && source.height === this.source.height; // what was there is better than nothing
    this.source = source;
    if (!same) this.frame?.clear();
    this.redraw();
  }

  /** Draw all of the present view anew, over what is there. */
  redraw() {
    this.pending = [];
    if (this.view && this.source) this.add([0, 0, this.frame.width, this.frame.height]);
  }

  /** Show another view, in a frame that may have another size. */
  setView(view, width, height) {
    const old = { frame: this.frame, view: this.view };
    const sized = old.frame?.width === width && old.frame?.height === height;
    if (sized && old.view.zoom === view.zoom && `${old.view.origin}` === `${view.origin}`) return;
    this.frame = (sized && this.spare) || new Frame(this.gl, width, height);
    this.view = view;
    if (!sized) this.spare?.close();
    this.spare = sized ? old.frame : null;
    if (old.frame) this.move(old);
    if (!sized) old.frame?.close();
    if (sized && old.view.zoom === view.zoom) this.shift(old.view);
    else this.redraw();
  }

  move({ frame, view }) {
    const scale = view.zoom / this.view.zoom;
    this.frame.bind();
    this.mover.use({
      old: frame.texture, origin: this.view.origin, oldOrigin: view.origin, scale,
    });
    cover(this.gl);
  }

  /** After a move without zoom only the edges are missing, and what was missing before. */
  shift(old) {
    const [dx, dy] = [0, 1].map((axis) => this.view.origin[axis] - old.origin[axis]);
    const { width, height } = this.frame;
    const tiles = this.pending;
    this.pending = [];
    for (const [x, y, w, h] of tiles) this.push([x - dx, y - dy, w, h]);
    if (!this.source) return;
    if (dx) this.add([dx > 0 ? width - dx : 0, 0, Math.abs(dx), height]);
    if (dy) this.add([0, dy > 0 ? height - dy : 0, width, Math.abs(dy)]);
  }

  push(tile) {
    const cut = common(tile, pictureBox(this.source, this.view, this.frame));
    if (cut[2] && cut[3]) this.pending.push(cut);
  }

  /** Add a box as tiles; those in the middle of the frame come first. */
  add(box) {
    const [left, top, width, height] = common(box, pictureBox(this.source, this.view, this.frame));
    for (let y = 0; y < height; y += TILE) {
      for (let x = 0; x < width; x += TILE) {
        this.push([left + x, top + y, Math.min(TILE, width - x), Math.min(TILE, height - y)]);
      }
    }
    const [middleX, middleY] = [this.frame.width / 2, this.frame.height / 2];
    const away = ([x, y, w, h]) => Math.hypot(x + w / 2 - middleX, y + h / 2 - middleY);
    this.pending.sort((a, b) => away(b) - away(a));
  }

  /** Draw tiles until they have cost so many Gaussians; returns what they have. */
  step(budget) {
    let spent = 0;
    while (this.pending.length && this.source.ready(this.view)) {
      const tile = this.pending.pop();
      const cost = this.source.cost(this.view, tile);
      if (cost > budget && Math.min(tile[2], tile[3]) >= 2 * LEAST_TILE) {
        this.pending.push(...quarters(tile));
        continue;
      }
      if (spent && spent + cost > budget) {
        this.pending.push(tile);
        break;
      }
      this.frame.bind(tile);
      this.source.draw(this.view);
      spent += cost;
    }
    return spent;
  }

  close() {
    this.frame?.close();
    this.spare?.close();
    this.mover.close();
  }
}

function quarters([x, y, width, height]) {
  const [w, h] = [width >> 1, height >> 1];
  return [[x, y, w, h], [x + w, y, width - w, h], [x, y + h, w, height - h],
    [x + w, y + h, width - w, height - h]];
}

/** Marks of all Gaussians; the ones before stay, moved, until these are all drawn. */
export class Marks {
  constructor(gl) {
    this.gl = gl;
    this.front = null; // what is shown, and its view
    this.back = null;
    this.next = 0;
    this.total = 0;
  }

  /** Draw kinds of marks, "ellipses" and "centres", of a model for a view. */
  set(model, kinds, view, width, height, lift, ratio) {
    this.job = { model, kinds, view, lift, ratio };
    this.next = 0;
    this.total = model && kinds.length ? model.first * kinds.length : 0;
    if (!this.total) return this.hide();
    if (this.back?.frame.width !== width || this.back?.frame.height !== height) {
      this.back?.frame.close();
      this.back = { frame: new Frame(this.gl, width, height) };
    }
    this.back.frame.clear();
    this.back.view = view;
  }

  hide() {
    this.front?.frame.close();
    this.front = null;
  }

  get pending() {
    return this.next < this.total;
  }

  step(budget) {
    const { model, kinds, view, lift, ratio } = this.job;
    const kind = kinds[Math.floor(this.next / model.first)];
    const from = this.next % model.first;
    const count = Math.min(Math.max(64, Math.floor(budget / MARK_COST)), model.first - from);
    this.back.frame.bind();
    model.drawMarks(kind, view, this.back.frame, from, count, lift, ratio);
    this.next += count;
    if (!this.pending) [this.front, this.back] = [this.back, this.front];
    return count * MARK_COST;
  }

  /** Scale and offset from the pixels of a view to those of the marks that are shown. */
  placement(view) {
    const { zoom, origin } = this.front.view;
    const scale = zoom / view.zoom;
    return [scale, scale, view.origin[0] * scale - origin[0], view.origin[1] * scale - origin[1]];
  }
}
