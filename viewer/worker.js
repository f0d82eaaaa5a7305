// Reads a file and makes its lists, so that the page stays awake. One worker for each file.

import { FormatError } from "./body.js";
import { density, makeLists, records } from "./lists.js";
import { GEOMETRY, read, readStart } from "./t2d.js";
import { wrapped } from "./tiles.js";

let file = null; // what is drawn of the one that was opened

const commands = {
  open({ data, coming }) {
    const found = coming ? readStart(new Uint8Array(data)) : read(new Uint8Array(data));
    if (!found) throw new FormatError("nothing of it can be shown yet");
    const { columns, ...facts } = found;
    file = wrapped(found);
    return { ...facts, records: records(file), density: density(file) };
  },
  /** Take the columns of a fit that goes on: a picture's facts, and numbers column after column. */
  take({ facts, data }) {
    const rows = GEOMETRY + facts.channels;
    const k = data.byteLength / 4 / rows;
    const columns = Array.from({ length: rows }, (_, i) => new Float32Array(data, 4 * k * i, k));
    file = wrapped({ ...facts, k, columns });
    return { ...facts, k, records: records(file), density: density(file) };
  },
  lists({ level, pruned }) {
    return makeLists(file, level, pruned);
  },
};

self.onmessage = ({ data: { number, command, ...rest } }) => {
  try {
    const result = commands[command](rest);
    const buffers = Object.values({ ...result, ...result.density })
      .filter(ArrayBuffer.isView).map((view) => view.buffer);
    self.postMessage({ number, result }, buffers);
  } catch (error) {
    const known = error instanceof FormatError;
    const message = error instanceof RangeError ? "too large for this device's memory"
      : error.message;
    self.postMessage({ number, error: known ? message : `cannot be shown (${message})` });
  }
};
