// What can be drawn: Gaussians, or a picture. Both draw any part of any view of themselves.

import { Program, byteTexture, columnBits, cover, listTexture, pictureTexture } from "./gpu.js";
import { texelsOf } from "./lists.js";
import { drawn, mapNotes } from "./maps.js";
import { MARK, MARK_CORNERS } from "./overlays.js";
import { COVER, PICTURE, splat } from "./shaders.js";

const OVERHEAD = 8; // of a pixel, in Gaussians
const ALL = 2 ** 31 - 1;

/** A picture beside Gaussians. */
export class Picture {
  constructor(gl, picture) {
    Object.assign(this, picture);
    this.gl = gl;
    this.texture = pictureTexture(gl, picture);
    this.program = new Program(gl, COVER, PICTURE);
  }

  ready() {
    return true;
  }

  cost(view, [, , width, height]) {
    return width * height * OVERHEAD;
  }

  draw(view) {
    const size = [this.width, this.height];
    this.program.use({ picture: this.texture, size, origin: view.origin, pitch: 1 / view.zoom });
    cover(this.gl);
  }

  /** Pixels as the file has them, not multiplied by opacity. */
  pixels() {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.bitmap, 0, 0);
    return context.getImageData(0, 0, this.width, this.height).data;
  }

  close() {
    this.gl.deleteTexture(this.texture);
    this.program.close();
  }
}

/** The Gaussians of a file. */
export class Model {
  /**
   * @param {WebGL2RenderingContext} gl
   * @param {Reader} reader of the file, which makes lists when they are asked for
   * @param {object} opened what it returned when it opened the file
   * @param {(error?: Error) => void} onLists called when lists have come, or cannot be made
   */
  constructor(gl, reader, opened, onLists) {
    this.gl = gl;
    this.reader = reader;
    this.onLists = onLists;
    this.lists = new Map();
    this.renewing = false;
    this.programs = new Map();
    this.bits = columnBits(gl);
    this.take(opened);
    this.first = this.k; // Gaussians that are shown
  }

  /** Put Gaussians on the device. */
  take({ records, density, ...facts }) {
    Object.assign(this, facts);
    this.gaussians = listTexture(this.gl, "rgba32f", records);
    this.density = {
      texture: byteTexture(this.gl, density.across, density.down, density.values), ...density,
    };
  }

  /** Show other Gaussians of the same picture; those before stay until the new ones' lists come. */
  async renew(facts, data, view) {
    this.renewing = true;
    try {
      const opened = await this.reader.ask("take", { facts, data }, [data]);
      const level = Model.level(view.zoom);
      const pruned = level === 0 && this.first >= this.k;
      const lists = await this.reader.ask("lists", { level, pruned });
      const share = this.first / Math.max(this.k, 1);
      this.clear();
      this.take(opened);
      this.first = Math.round(share * this.k);
      this.lists = new Map([[`${level} ${pruned}`, this.upload(lists)]]);
    } finally {
      this.renewing = false;
    }
  }

  /** Sentences on what is not drawn as the file says. */
  notes() {
    const found = mapNotes(this);
    const cut = [...this.lists.values()].reduce((sum, lists) => sum + (lists?.cut ?? 0), 0);
    if (cut) found.push("Where very many Gaussians overlap, the last of them are left out.");
    return found;
  }

  /** Levels of lists: 0 from 1:1 on, one more for each halving below. */
  static level(zoom) {
    return Math.max(0, Math.ceil(-Math.log2(zoom) - 1e-9));
  }

  /** The lists for a view; where they are not there yet, they are asked for. */
  listsFor({ zoom }) {
    const level = Model.level(zoom);
    const pruned = level === 0 && this.first >= this.k;
    const key = `${level} ${pruned}`;
    if (!this.lists.has(key) && !this.renewing) {
      const held = this.lists;
      held.set(key, null);
      this.reader.ask("lists", { level, pruned }).then((lists) => {
        if (held === this.lists) held.set(key, this.upload(lists)); // else of other Gaussians
        this.onLists();
      }).catch((error) => this.onLists(error));
      this.program(this.kindAt(level)); // compiles while the lists are made
    }
    return this.lists.get(key);
  }

  upload({ cells, entries, ...rest }) {
    const { gl } = this;
    return {
      ...rest,
      counts: cells.filter((_, at) => at & 1),
      cells: listTexture(gl, "rg32ui", cells),
      entries: listTexture(gl, "r32ui", entries),
    };
  }

  ready(view) {
    return Boolean(this.listsFor(view));
  }

  /** About how many Gaussians are looked at for a part of a view: x, y, width, height. */
  cost(view, [x, y, width, height]) {
    const { side, across, down, counts } = this.listsFor(view);
    const [left, top] = view.origin;
    const cell = (at, last) => Math.min(Math.max(Math.floor(at / view.zoom / side), 0), last);
    const [x0, x1] = [cell(left + x, across - 1), cell(left + x + width, across - 1)];
    const [y0, y1] = [cell(top + y, down - 1), cell(top + y + height, down - 1)];
    let total = 0;
    for (let row = y0; row <= y1; row++) {
      for (let column = x0; column <= x1; column++) total += counts[row * across + column];
    }
    const mean = total / ((x1 - x0 + 1) * (y1 - y0 + 1));
    return width * height * (OVERHEAD + mean);
  }

  /** Which shader draws a level of lists. */
  kindAt(level) {
    return level ? "average" : this.settings.blend === "sum" ? "all" : "nearest";
  }

  program(kind) {
    if (!this.programs.has(kind)) {
      const { topK, blend } = this.settings;
      const fragment = splat(kind, {
        texels: texelsOf(this), channels: drawn(this), topK, blend, map: this.maps?.[0],
      });
      this.programs.set(kind, new Program(this.gl, COVER, fragment));
    }
    return this.programs.get(kind);
  }

  draw(view) {
    const lists = this.listsFor(view);
    const pitch = 1 / view.zoom;
    const most = this.first < this.k ? this.first : ALL; // of a picture that tiles, copies follow
    this.program(this.kindAt(lists.level)).use({
      gaussians: this.gaussians, cells: lists.cells, entries: lists.entries, bits: this.bits,
      grid: [lists.across, lists.down], side: lists.side, origin: view.origin, pitch,
      size: [this.width, this.height], support: this.settings.cutoff ** 2,
      eps: this.settings.eps, spread: Math.max(0, pitch * pitch - 1) / 12, most,
    });
    cover(this.gl);
  }

  /** Draw marks of some Gaussians: their ellipses, or dots at their centres. */
  drawMarks(kind, view, frame, from, count, lift, ratio) {
    const { gl } = this;
    const spacing = Math.sqrt((this.height * this.width) / Math.max(this.k, 1)) * view.zoom;
    if (!this.programs.has("marks")) {
      const program = new Program(gl, MARK_CORNERS(texelsOf(this)), MARK);
      this.programs.set("marks", program);
    }
    this.programs.get("marks").use({
      gaussians: this.gaussians, bits: this.bits, first: from, origin: view.origin,
      pitch: 1 / view.zoom, frame: [frame.width, frame.height], channels: drawn(this), lift,
      dot_: kind === "centres" ? Math.min(Math.max(0.22 * spacing, 0.8), 2.2 * ratio) : 0,
      least: 0.5, line: Math.min(Math.max(0.2 * spacing, 0.45), 1.3 * ratio),
    });
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    gl.disable(gl.BLEND);
  }

  clear() {
    const { gl } = this;
    for (const lists of this.lists.values()) {
      if (lists) [lists.cells, lists.entries].forEach((texture) => gl.deleteTexture(texture));
    }
    [this.gaussians, this.density.texture].forEach((texture) => gl.deleteTexture(texture));
  }

  close() {
    this.reader.close();
    this.clear();
    for (const program of this.programs.values()) program.close();
  }
}
