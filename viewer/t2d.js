// A reader of .t2d files, written from docs/FORMAT.md alone. Runs in browsers, workers and Node.

import { Body, FormatError } from "./body.js";
import { CodedError } from "./lzma.js";
import { readMaps } from "./maps.js";

export const PRESETS = ["lossless", "high", "medium", "small"];
export const BLENDS = ["normalized", "sum"];
export const GEOMETRY = 5; // columns before those of colour: x, y, two log-scales, theta
const MAGIC = [0x8a, 0x54, 0x32, 0x44, 0x0d, 0x0a, 0x1a, 0x0a];
const HEADER = 42;
const MAPPED = 4; // the version of files with maps, which then say another version of their body
const GRID = 32;
const CURVE = 9; // bytes of the last place and the number of sections
const MAX_PIXELS = 2 ** 28;
const MAX_K = 2 ** 24;
const PER_BYTE = 64; // Gaussians for each byte of a file, at most
const MAX_WHOLE = 2 ** 24 - 1; // of either sign
const HALF_PLACE = 2 ** 24; // a place has 48 bits, which are taken apart in two halves

/**
 * Read a .t2d file.
 *
 * @param {Uint8Array} data the whole file
 * @param {number} fraction of the Gaussians of a progressive file: sections beyond are not read
 * @returns {{height: number, width: number, channels: number, k: number, preset: string,
 *     maps: object[],
 *     settings: {topK: number, cutoff: number, eps: number, blend: string, tile: boolean},
 *     columns: Float32Array[], bytes: number}} columns are x, y, two log-scales, theta and the
 *     colours, each of k numbers
 * @throws {FormatError}
 */
export function read(data, fraction = 1) {
  const header = checkedHeader(data);
  return parsed(data, header, data.subarray(header.start, -4), fraction);
}

/**
 * Read the sections of a progressive file that have come whole, before the rest has.
 *
 * @param {Uint8Array} data the first bytes of the file
 * @returns as `read`, or null if no section is whole, or the file is not progressive
 * @throws {FormatError} what is there is damaged; as the checksum comes last, nothing else shows it
 */
export function readStart(data) {
  if (data.length < HEADER + 4) return null;
  const header = readHeader(data);
  const first = header.start + GRID + header.channels * (header.channels - 1) + CURVE;
  if (!header.progressive || data.length < first) return null;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const count = data[first - 1];
  let come = 0;
  for (let at = first; come < count && at + 4 <= data.length; come++) {
    at += 4 + view.getUint32(at, true);
    if (at > data.length) break;
  }
  return come ? parsed(data, header, data.subarray(header.start), 2 ** (come - count)) : null;
}

function parsed(data, header, bytes, fraction) {
  const body = new Body(bytes, header.k);
  let columns;
  try {
    if (!header.k) {
      columns = Array.from({ length: GEOMETRY + header.channels }, () => new Float32Array(0));
    } else if (header.preset === "lossless") {
      columns = Array.from({ length: GEOMETRY + header.channels }, () => body.floats());
    } else {
      columns = lossy(body, header, fraction);
    }
  } catch (error) {
    if (error instanceof CodedError) throw new FormatError(`damaged: ${error.message}`);
    if (error instanceof RangeError) throw new FormatError("too large for this device's memory");
    throw error;
  }
  for (const column of columns) {
    if (!column.every(Number.isFinite)) throw new FormatError("a number is not finite");
  }
  return { ...header, k: columns[0].length, columns, bytes: data.length };
}

function checkedHeader(data) {
  const header = readHeader(data);
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (crc32(data.subarray(0, -4)) !== view.getUint32(data.length - 4, true)) {
    throw new FormatError("damaged or cut off: its checksum is wrong");
  }
  return header;
}

function readHeader(data) {
  if (data.length < HEADER + 4 || MAGIC.some((octet, i) => data[i] !== octet)) {
    throw new FormatError("it does not begin as a .t2d file does");
  }
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let version = view.getUint16(8, true);
  if (version < 2 || version > MAPPED) {
    throw new FormatError(`version ${version}; this page reads versions 2 to 4`);
  }
  const [preset, channels, topK, blend] = [data[10], data[11], data[24], data[25]];
  const [height, width, k] = [12, 16, 20].map((at) => view.getUint32(at, true));
  const [cutoff, eps] = [26, 34].map((at) => view.getFloat64(at, true));
  let [maps, start] = [[], HEADER];
  if (version === MAPPED) {
    const body = new Body(data.subarray(HEADER, -4), k);
    version = body.view(1).getUint8(0);
    maps = readMaps(body, channels);
    start += body.at;
  }
  const inRange = (version === 2 || version === 3) && preset < PRESETS.length
    && channels >= 1 && channels <= 16
    && height * width >= 1 && height * width <= MAX_PIXELS && height < 2 ** 31 && width < 2 ** 31
    && k <= Math.min(MAX_K, PER_BYTE * data.length) && (preset || version === 2)
    && topK >= 1 && topK <= 64 && blend < 2 * BLENDS.length
    && cutoff > 0 && cutoff <= 12 && eps > 0 && eps < Infinity;
  if (!inRange) throw new FormatError("its header is out of range");
  return {
    height, width, channels, k, preset: PRESETS[preset], progressive: version === 3, maps, start,
    settings: { topK, cutoff, eps, blend: BLENDS[blend % 2], tile: blend >= BLENDS.length },
  };
}

/** All columns of a file that is not lossless, or those of a fraction of its Gaussians. */
function lossy(body, { channels, progressive }, fraction) {
  const grid = body.view(GRID);
  const steps = [0, 4, 8, 12].map((at) => grid.getFloat32(at, true));
  const [usual, octave, left, top] = [16, 20, 24, 28].map((at) => grid.getInt32(at, true));
  const weights = [];
  for (let c = 0; c < channels; c++) {
    const row = body.view(2 * c);
    weights.push(Array.from({ length: c }, (_, i) => row.getInt16(2 * i, true)));
  }
  if (!steps.every(Number.isFinite)) throw new FormatError("damaged: a number is out of range");
  const how = { steps, usual, octave, left, top, weights };
  return progressive ? sections(body, how, fraction) : section(body, body.places(), how);
}

/** The columns of the first sections, which hold a fraction of the Gaussians or more. */
function sections(body, how, fraction) {
  const { k } = body;
  const head = body.view(9);
  const end = head.getUint32(4, true) * 2 ** 32 + head.getUint32(0, true);
  const count = head.getUint8(8);
  if (count < 1 || count > 8 || 2 ** count >= 4 * k || end >= 2 ** 48) {
    throw new FormatError("damaged: its sections are out of range");
  }
  const known = new Float64Array(k);
  const parts = [];
  for (let number = 0, done = 0; number < count && done < fraction * k; number++) {
    const half = 2 ** (count - 1 - number); // the first section begins at 0, the others between
    const rows = number ? every(2 * half, half, k) : every(half, 0, k);
    const part = new Body(body.take(body.view(4).getUint32(0, true)), rows.length);
    const after = rows.map((row) => (row + half < k ? known[row + half] : end));
    const place = number ? part.placesBetween(rows.map((row) => known[row - half]), after)
      : part.placesUpTo(end);
    rows.forEach((row, i) => {
      known[row] = place[i];
    });
    parts.push(section(part, place, how));
    done += rows.length;
  }
  const columns = parts[0].map((_, c) => joined(parts.map((part) => part[c])));
  widen(columns, Math.fround(Math.log(k / columns[0].length) / 2));
  return columns;
}

/** first, first + step, first + 2 step and so on, below k. */
function every(step, first, k) {
  return Float64Array.from({ length: Math.ceil((k - first) / step) }, (_, i) => first + i * step);
}

function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Let Gaussians cover those that are left out, too. */
function widen(columns, by) {
  if (!by) return;
  for (const column of columns.slice(2, 4)) column.forEach((value, i) => (column[i] = value + by));
}

/** The columns of Gaussians whose places are known. */
function section(body, place, { steps, usual, octave, left, top, weights }) {
  const { k } = body;
  const channels = weights.length;
  const logSize = body.numbers();
  const stretch = body.numbers();
  const stored = Array.from({ length: channels }, () => body.numbers());
  const wide = (value) => Math.abs(value) > MAX_WHOLE;
  if (logSize.some(wide) || stretch.some((value) => wide(value) || value < 0)) {
    throw new FormatError("damaged: a number is out of range");
  }
  const angles = body.mixed(stretch.map((w) => 1 + 8 * w));
  const p = new Int8Array(k);
  const q = new Int8Array(k);
  const fine = new Uint8Array(k);
  for (let i = 0; i < k; i++) {
    const a = (logSize[i] - usual) * octave;
    p[i] = clamp(Math.floor((a + 2 ** 15) / 2 ** 16), -3, 3);
    q[i] = clamp(-Math.floor((a + 2 ** 16) / 2 ** 17), -2, 2);
    fine[i] = 3 - p[i];
  }
  const fineX = body.bits(fine);
  const fineY = body.bits(fine);
  const columns = Array.from({ length: GEOMETRY + channels }, () => new Float32Array(k));
  const [x, y, first, second, theta, ...colors] = columns;
  for (let i = 0; i < k; i++) {
    const step = steps[0] * 2 ** p[i];
    const [column, row] = unfolded(place[i]);
    x[i] = ((left + column) * 2 ** fine[i] + fineX[i]) * step;
    y[i] = ((top + row) * 2 ** fine[i] + fineY[i]) * step;
    const size = steps[1] * logSize[i];
    const length = steps[2] * stretch[i];
    first[i] = size + length / 2;
    second[i] = size - length / 2;
    theta[i] = angles[i] * (Math.PI / (1 + 8 * stretch[i]));
  }
  addPredicted(stored, weights);
  const order = byColor(q);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < k; i++) {
      const g = order[i];
      colors[c][g] = stored[c][i] * (steps[3] * 2 ** q[g]);
    }
  }
  return columns;
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

/** The coarse column and row of a place: its even and its odd bits. */
function unfolded(place) {
  const low = place % HALF_PLACE;
  const high = (place - low) / HALF_PLACE;
  return [0, 1].map((axis) => squeezed(low >>> axis) + squeezed(high >>> axis) * 4096);
}

/** Every second bit of 24, side by side. */
function squeezed(bits) {
  let v = bits & 0x555555;
  v = (v | (v >>> 1)) & 0x333333;
  v = (v | (v >>> 2)) & 0x0f0f0f;
  v = (v | (v >>> 4)) & 0xff00ff;
  return (v | (v >>> 8)) & 0xffff;
}

/** Add to each channel, in place, what follows from those before it. */
function addPredicted(stored, weights) {
  for (let c = 0; c < stored.length; c++) {
    for (let i = 0; i < stored[c].length; i++) {
      let follows = 0;
      for (let before = 0; before < c; before++) follows += weights[c][before] * stored[before][i];
      stored[c][i] += Math.floor((follows + 2 ** 7) / 2 ** 8);
      if (Math.abs(stored[c][i]) > MAX_WHOLE) {
        throw new FormatError("damaged: a number is out of range");
      }
    }
  }
}

/** In which order colours are stored: by q, and among equals as Gaussians are. */
function byColor(q) {
  const order = new Uint32Array(q.length);
  let at = 0;
  for (let value = -2; value <= 2; value++) {
    for (let i = 0; i < q.length; i++) if (q[i] === value) order[at++] = i;
  }
  return order;
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The CRC-32 of zlib and PNG. */
export function crc32(data) {
  let crc = -1;
  for (let i = 0; i < data.length; i++) crc = CRC[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}
