// The page: opens files, and ties what is on it to the stage.

import { $, followControls, followFiles, followTheme, slide } from "./controls.js";
import { followDivider, followKeys, followPointers } from "./gestures.js";
import { followFit } from "./live.js";
import { Model, Picture } from "./model.js";
import { factsOf, plain, psnr } from "./numbers.js";
import { Reader, fetched, isGaussians, openPicture } from "./open.js";
import { Stage } from "./stage.js";

const DIMMED = 25; // percent of the picture below ellipses
const MOST_BYTES = 2 ** 31;

class Page {
  constructor() {
    this.sources = [null, null];
    this.measured = 0;
    this.live = null; // the PSNR that a fit says it has, while it goes on
    this.stage = new Stage($("canvas"), { onView: () => this.showZoom() });
    this.stage.onLost = () => this.say("the graphics device has stopped; reload the page");
    this.moveDivider = followDivider($("divider"), $("canvas"), (divider) => {
      if ($("divide").checked) this.stage.set({ divider });
    });
    followPointers(this.stage);
    followKeys(this.stage, this.actions());
    followControls(this);
    followFiles(this);
    followTheme(this.stage);
    this.update();
  }

  actions() {
    const press = (id) => () => $(id).disabled || !this.model || $(id).click();
    const choose = (kind) => () => {
      const input = document.querySelector(`input[name=kind][value=${kind}]`);
      if (!input.disabled) input.click();
    };
    const more = (by) => () => {
      $("first").value = Number($("first").value) + by;
      $("first").dispatchEvent(new Event("input"));
    };
    return {
      r: choose("left"), o: choose("right"), d: choose("difference"), v: press("divide"),
      e: press("ellipses"), c: press("centres"), s: press("save"), p: press("toggle"),
      "?": () => $("keys").showModal(), "[": more(-20), "]": more(20),
      h: () => slide("density", Number($("density").value) ? 0 : 70),
    };
  }

  /** Ellipses are seen on a dark picture; it comes back with the last of them. */
  dim() {
    const marked = $("ellipses").checked;
    if (marked && this.bright === undefined) {
      this.bright = Number($("strength").value);
      slide("strength", Math.min(this.bright, DIMMED));
    } else if (!marked && this.bright !== undefined) {
      if (Number($("strength").value) === Math.min(this.bright, DIMMED)) {
        slide("strength", this.bright);
      }
      this.bright = undefined;
    }
  }

  divide() {
    const on = $("divide").checked;
    if (on) {
      document.querySelector("input[name=kind][value=left]").checked = true;
      $("gain-row").hidden = true;
      this.stage.set({ kind: "left" });
    }
    $("divider").hidden = !on;
    if (on) this.moveDivider();
    else this.stage.set({ divider: Infinity });
  }

  showFirst() {
    const model = this.model;
    if (!model) return;
    const share = Number($("first").value) / Number($("first").max);
    // Squared, so that the first few can be told apart.
    model.first = share === 1 ? model.k : Math.round(model.k * share * share);
    $("first-now").textContent = plain(model.first);
    this.stage.redraw();
    this.measure();
  }

  get model() {
    return this.sources[0];
  }

  /** Open files that were chosen or dropped: Gaussians first, then what to compare them with. */
  async open(files, side) {
    const parts = [];
    for (const file of files.slice(0, 2)) {
      if (file.size > MOST_BYTES) return this.say(`${file.name}: too large to be a .t2d file`);
      parts.push({ name: file.name, data: await file.arrayBuffer() });
    }
    await this.openAll(parts, side);
  }

  /** Open what is read: names and bytes. */
  async openAll(parts, side = 0) {
    parts.sort((a, b) => isGaussians(b.name, b.data) - isGaussians(a.name, a.data));
    this.say(null);
    $("busy").hidden = false;
    for (const { name, data } of parts) {
      const gaussians = isGaussians(name, data);
      const to = side === 1 || (!gaussians && this.model) ? 1 : 0;
      try {
        if (!gaussians && to === 0) throw new Error("a picture; open a .t2d file first");
        await this.put(to, name, data, gaussians);
      } catch (error) {
        this.say(`${name}: ${error.message}`);
        break;
      }
      side = 1;
    }
    $("busy").hidden = true;
    this.update();
  }

  async put(side, name, data, gaussians, coming = false) {
    const { gl } = this.stage;
    let source;
    if (gaussians) {
      const reader = new Reader();
      try {
        const opened = await reader.ask("open", { data, coming }, [data]);
        source = new Model(gl, reader, opened, (error) => this.listsHaveCome(error));
      } catch (error) {
        reader.close();
        throw error;
      }
    } else {
      source = new Picture(gl, await openPicture(name, data));
    }
    source.name = name;
    const other = this.sources[0];
    if (side === 1 && other && !sameSize(source, other)) {
      source.close();
      throw new Error(`${source.width} × ${source.height} pixels; ${other.name} has `
        + `${other.width} × ${other.height}`);
    }
    this.place(side, source);
  }

  /** Show a source; another picture than before is shown whole. */
  place(side, source) {
    const before = this.model;
    this.replace(side, source);
    if (side === 0) {
      if (this.sources[1] && !sameSize(source, this.sources[1])) this.replace(1, null);
      slide("first", $("first").max);
      this.stage.resize();
      if (!before || !sameSize(source, before) || this.stage.fitted) this.stage.fit();
    }
  }

  replace(side, source) {
    this.stage.setSource(side, source);
    this.sources[side]?.close();
    this.sources[side] = source;
  }

  listsHaveCome(error) {
    if (error) this.say(error.message);
    this.stage.changed();
    this.showNotes();
  }

  /** Show what is open. */
  update() {
    const [model, other] = this.sources;
    $("empty").hidden = Boolean(model ?? other);
    for (const id of ["panel", "toggle", "zoom"]) $(id).hidden = !model;
    for (const input of document.querySelectorAll("input[name=kind]")) {
      input.disabled = input.value !== "left" && !other;
    }
    $("divide").disabled = !other;
    if (!other) {
      $("divide").checked = false;
      document.querySelector("input[name=kind][value=left]").checked = true;
      this.stage.set({ kind: "left" });
      this.divide();
    }
    $("right-name").textContent = other instanceof Model ? "Other" : "Original";
    if (!model) return;
    document.title = `${model.name} · taichi2dgs`;
    $("name").textContent = model.name;
    $("facts").textContent = `${plain(model.k)} Gaussians, ${model.width} × ${model.height}`;
    $("tag-left").textContent = other instanceof Model ? model.name : "Render";
    $("tag-right").textContent = other instanceof Model ? other.name : "Original";
    this.showFirst();
    this.showNotes();
  }

  showNumbers(psnrNow) {
    const facts = { ...(psnrNow === undefined ? {} : { PSNR: psnrNow }), ...factsOf(this.model) };
    $("numbers").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [
      element("dt", name), element("dd", value)]));
  }

  showNotes() {
    if (!this.model) return;
    $("notes").replaceChildren(...this.model.notes().map((note) => element("li", note)));
  }

  showZoom() {
    const percent = 100 * this.stage.view.zoom;
    $("zoom-now").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
  }

  /** Measure the PSNR against the original, once what is seen is drawn. */
  async measure() {
    const number = ++this.measured;
    const [model, other] = this.sources;
    if (this.live) return this.showNumbers(this.live);
    if (!(other instanceof Picture)) return this.showNumbers();
    this.showNumbers("…");
    const isStale = () => number !== this.measured;
    await new Promise((resolve) => setTimeout(resolve, 150));
    if (isStale()) return undefined;
    await this.stage.settled();
    if (isStale()) return undefined;
    const decibels = await psnr(this.stage, model, other, isStale);
    if (!isStale()) this.showNumbers(`${decibels.toFixed(2)} dB`);
    return undefined;
  }

  async save() {
    const url = URL.createObjectURL(await this.stage.toBlob());
    const link = Object.assign(document.createElement("a"), {
      href: url, download: `${this.model.name.replace(/\.t2d$/i, "")}.png`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  say(sentence) {
    $("message").hidden = !sentence;
    $("message").textContent = sentence ?? "";
  }

  /** Open what the page's address names, or what the page brings with it. */
  async start() {
    const inside = [...document.querySelectorAll("script[data-name]")];
    if (inside.length) {
      const bytes = (script) => Uint8Array.from(atob(script.textContent), (c) => c.charCodeAt(0));
      return this.openAll(inside.map((script) => (
        { name: script.dataset.name, data: bytes(script).buffer })));
    }
    const parts = [];
    const asked = new URLSearchParams(location.search);
    for (const file of asked.getAll("file").slice(0, 2)) {
      const url = new URL(file, location.href);
      const name = decodeURIComponent(url.pathname.split("/").pop());
      try {
        if (url.origin !== location.origin) throw new Error("is on another server");
        const answer = await fetch(url);
        if (!answer.ok) throw new Error(`cannot be fetched (${answer.status})`);
        const shown = async (data) => {
          await this.put(0, name, data, true, true);
          this.update();
        };
        parts.push({ name, data: await fetched(answer, parts.length ? null : shown) });
      } catch (error) {
        return this.say(`${name}: ${error.message}`);
      }
    }
    if (asked.has("live")) return followFit(this, parts);
    return this.openAll(parts);
  }
}

function sameSize(a, b) {
  return a.width === b.width && a.height === b.height;
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

try {
  window.page = new Page();
  window.page.started = window.page.start();
} catch (error) {
  $("message").hidden = false;
  $("message").textContent = error.message;
}
