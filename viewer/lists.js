// Which Gaussians reach which cell of the picture: made once for a file, for zooms of 1 and more,
// and once for each halving below, where pixels are larger and Gaussians are spread over them.

import { drawn } from "./maps.js";

const MOST_ENTRIES = 2 ** 24; // of all lists; cells grow until they are fewer
const LONGEST = 2 ** 18; // of one list: a device must not be busy with one pixel for seconds
const PAD = 1e-3; // pixels, far above the rounding of an extent
const SLACK = 1 + 1e-5; // of squared distances, above the rounding of both
const LEAST_CELL = 2; // pixels
const FINE = 100_000; // Gaussians, up to which there is memory for smaller cells
const TEXELS = { 1: 2, 2: 2, 3: 3, 4: 3 }; // of four floats, of each Gaussian

/** Texels that the Gaussians of a file take, with those channels that are drawn. */
export function texelsOf(file) {
  return TEXELS[drawn(file)];
}

/**
 * The numbers that a shader needs: centre, the whitening matrix (ux, uy, vx, vy), colours. With d
 * the offset of a point from the centre, its squared distance in standard deviations is
 * (ux dx + uy dy)^2 + (vx dx + vy dy)^2.
 *
 * @returns {Float32Array} rows of `texelsOf(file)` times four numbers
 */
export function records(file) {
  const [x, y, first, second, theta, ...colors] = file.columns;
  const channels = drawn(file);
  const row = 4 * texelsOf(file);
  const out = new Float32Array(row * x.length);
  for (let i = 0, at = 0; i < x.length; i++, at += row) {
    const [co, si] = [Math.cos(theta[i]), Math.sin(theta[i])];
    const [s0, s1] = [Math.exp(first[i]), Math.exp(second[i])];
    out[at] = x[i];
    out[at + 1] = y[i];
    out[at + 2] = co / s0;
    out[at + 3] = si / s0;
    out[at + 4] = -si / s1;
    out[at + 5] = co / s1;
    for (let c = 0; c < channels; c++) out[at + 6 + c] = colors[c][i];
  }
  return out;
}

/** The side of cells in which few Gaussians reach nearly all that is there, in pixels. */
export function cellSide({ height, width, k }) {
  const spacing = Math.sqrt((height * width) / Math.max(k, 1));
  const part = k <= FINE ? 0.75 : 1.5;
  return Math.max(LEAST_CELL, 2 ** Math.round(Math.log2(part * spacing)));
}

/**
 * Make the lists of one level.
 *
 * @param {object} file what `read` returns
 * @param {number} level 0: points; else pixels of up to 2^level of the picture's
 * @param {boolean} pruned leave out of level 0 what can be among the nearest of no point of a cell
 * @returns {{level: number, pruned: boolean, side: number, across: number, down: number,
 *     cells: Uint32Array, entries: Uint32Array, cut: number}} cells has the first entry and the
 *     number of entries of each, entries are Gaussians in their order, and cut says how many
 *     were left out where too many overlap
 */
export function makeLists(file, level, pruned) {
  const shapes = shapesOf(file, level);
  let side = cellSide(file) * 2 ** level;
  let lists = null;
  while (!lists) {
    lists = listsOf(file, shapes, side);
    side *= 2;
  }
  const nearest = pruned && level === 0 && file.settings.blend === "normalized";
  if (nearest) prune(file, shapes, lists);
  const cut = shorten(lists);
  return { level, pruned, cut, ...lists, entries: lists.entries.slice(0, lists.total) };
}

/** Centres and covariances, with what larger pixels add. */
function shapesOf({ columns, k }, level) {
  const [x, y, first, second, theta] = columns;
  const added = (4 ** level - 1) / 12;
  const [xx, xy, yy, det] = Array.from({ length: 4 }, () => new Float64Array(k));
  for (let i = 0; i < k; i++) {
    const [co, si] = [Math.cos(theta[i]), Math.sin(theta[i])];
    const [a, b] = [Math.exp(2 * first[i]), Math.exp(2 * second[i])];
    const [wide, high] = [co * co * a + si * si * b, si * si * a + co * co * b];
    xx[i] = wide + added;
    yy[i] = high + added;
    xy[i] = co * si * (a - b);
    det[i] = a * b + added * (wide + high) + added * added;
  }
  return { x, y, xx, xy, yy, det };
}

/** Lists for cells of some side, or null if they have too many entries. */
function listsOf({ height, width, k, settings }, shapes, side) {
  const [across, down] = [Math.ceil(width / side), Math.ceil(height / side)];
  if (across * down > MOST_ENTRIES) return null;
  const cells = new Uint32Array(2 * across * down);
  let total = 0;
  const count = (cell) => {
    cells[2 * cell + 1]++;
    total++;
  };
  const grid = { side, across, down };
  for (let i = 0; i < k; i++) {
    eachCell(shapes, i, settings.cutoff, grid, count);
    if (total > MOST_ENTRIES) return null;
  }
  for (let cell = 0, first = 0; cell < across * down; cell++) {
    cells[2 * cell] = first;
    first += cells[2 * cell + 1];
    cells[2 * cell + 1] = 0;
  }
  const entries = new Uint32Array(total);
  for (let i = 0; i < k; i++) {
    eachCell(shapes, i, settings.cutoff, grid, (cell) => {
      entries[cells[2 * cell] + cells[2 * cell + 1]++] = i;
    });
  }
  return { ...grid, cells, entries, total };
}

/**
 * Call back with every cell that the support of a Gaussian reaches. Within a row of cells the
 * ellipse spans one interval: its ends are where it is widest, or at the row's nearer edge.
 */
function eachCell({ x, y, xx, xy, yy, det }, i, cutoff, { side, across, down }, call) {
  const [high, wide] = [cutoff * Math.sqrt(yy[i]), cutoff * Math.sqrt(xx[i])];
  const pad = PAD + 1e-4 * Math.max(high, wide);
  const first = Math.max(0, Math.floor((y[i] - high - pad) / side));
  const last = Math.min(down - 1, Math.floor((y[i] + high + pad) / side));
  const shear = yy[i] > 0 ? xy[i] / yy[i] : 0;
  const half = yy[i] > 0 ? Math.sqrt(det[i] / yy[i]) : 0;
  const turn = wide > 0 ? (cutoff * cutoff * xy[i]) / wide : 0; // where the ellipse is widest
  for (let row = first; row <= last; row++) {
    const [above, below] = [row * side - y[i] - pad, (row + 1) * side - y[i] + pad];
    const end = (at, sign) => {
      const dy = Math.min(Math.max(at, above), below);
      const left = Math.max(0, cutoff * cutoff - (dy * dy) / yy[i]);
      return x[i] + shear * dy + sign * (half * Math.sqrt(left) + pad);
    };
    const from = Math.max(0, Math.floor(end(-turn, -1) / side));
    const to = Math.min(across - 1, Math.floor(end(turn, 1) / side));
    for (let column = from; column <= to; column++) call(row * across + column);
  }
}

/**
 * Leave out of each list, in place, what is farther from all of its cell than as many others as a
 * pixel blends are from any of it. No render changes by that.
 */
function prune({ settings, k }, shapes, lists) {
  const { side, across, cells, entries } = lists;
  const conics = new Float64Array(3 * k); // of squared distances: a dx^2 - 2 b dx dy + c dy^2
  for (let i = 0; i < k; i++) {
    conics[3 * i] = shapes.yy[i] / shapes.det[i];
    conics[3 * i + 1] = shapes.xy[i] / shapes.det[i];
    conics[3 * i + 2] = shapes.xx[i] / shapes.det[i];
  }
  const { topK, cutoff } = settings;
  const farthest = new Float64Array(topK);
  let total = 0;
  for (let cell = 0; 2 * cell < cells.length; cell++) {
    const [first, count] = [cells[2 * cell], cells[2 * cell + 1]];
    const left = (cell % across) * side;
    const top = Math.floor(cell / across) * side;
    farthest.fill(Infinity);
    for (let at = first; count > topK && at < first + count; at++) {
      const i = entries[at];
      const [dx, dy] = [left - shapes.x[i], top - shapes.y[i]];
      keepSmallest(farthest, mostDistant(conics, 3 * i, dx, dy, side));
    }
    const reach = farthest[topK - 1] * SLACK;
    cells[2 * cell] = total;
    for (let at = first; at < first + count; at++) {
      const i = entries[at];
      const near = reach > cutoff * cutoff
        || leastDistant(conics, 3 * i, left - shapes.x[i], top - shapes.y[i], side) <= reach;
      if (near) entries[total++] = i;
    }
    cells[2 * cell + 1] = total - cells[2 * cell];
  }
  lists.total = total;
}

function keepSmallest(sorted, value) {
  let at = sorted.length - 1;
  if (!(value < sorted[at])) return;
  for (; at > 0 && sorted[at - 1] > value; at--) sorted[at] = sorted[at - 1];
  sorted[at] = value;
}

function squaredDistance(conics, at, dx, dy) {
  return (conics[at] * dx - 2 * conics[at + 1] * dy) * dx + conics[at + 2] * dy * dy;
}

/** The greatest squared distance within a cell, whose corner is at (dx, dy): at a corner. */
function mostDistant(conics, at, dx, dy, side) {
  return Math.max(
    squaredDistance(conics, at, dx, dy), squaredDistance(conics, at, dx + side, dy),
    squaredDistance(conics, at, dx, dy + side), squaredDistance(conics, at, dx + side, dy + side),
  );
}

/** The least squared distance within a cell: 0 inside, else on an edge that faces the centre. */
function leastDistant(conics, at, dx, dy, side) {
  const [beside, above] = [dx > 0 || dx + side < 0, dy > 0 || dy + side < 0];
  let least = beside || above ? Infinity : 0;
  if (beside) {
    const x = dx > 0 ? dx : dx + side;
    const y = Math.min(Math.max((conics[at + 1] * x) / conics[at + 2], dy), dy + side);
    least = squaredDistance(conics, at, x, y);
  }
  if (above) {
    const y = dy > 0 ? dy : dy + side;
    const x = Math.min(Math.max((conics[at + 1] * y) / conics[at], dx), dx + side);
    least = Math.min(least, squaredDistance(conics, at, x, y));
  }
  return least;
}

/** Cut off lists that are too long, in place; returns how many entries were left out. */
function shorten({ cells }) {
  let cut = 0;
  for (let at = 1; at < cells.length; at += 2) {
    cut += Math.max(0, cells[at] - LONGEST);
    cells[at] = Math.min(cells[at], LONGEST);
  }
  return cut;
}

/**
 * How dense centres are: a small picture of bytes, its logarithm from none to the most.
 *
 * @returns {{side: number, across: number, down: number, values: Uint8Array}}
 */
export function density({ columns, k, height, width }, most = 256) {
  const spacing = Math.sqrt((height * width) / Math.max(k, 1));
  const side = Math.max(1, Math.max(height, width) / most, 1.5 * spacing);
  const [across, down] = [Math.ceil(width / side), Math.ceil(height / side)];
  const counts = new Float32Array(across * down);
  const [x, y] = columns;
  for (let i = 0; i < k; i++) {
    const [column, row] = [Math.floor(x[i] / side), Math.floor(y[i] / side)];
    if (column < 0 || row < 0 || column >= across || row >= down) continue;
    counts[row * across + column]++;
  }
  const values = smoothed(smoothed(counts, across, down), across, down).map(Math.log1p);
  const highest = values.reduce((a, b) => Math.max(a, b), 1e-9);
  return {
    side, across, down, values: Uint8Array.from(values, (v) => Math.round((255 * v) / highest)),
  };
}

/** Each value as the mean of the 3 x 3 around it. */
function smoothed(values, across, down) {
  const out = new Float32Array(values.length);
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      let [sum, count] = [0, 0];
      for (let y = Math.max(0, row - 1); y <= Math.min(down - 1, row + 1); y++) {
        for (let x = Math.max(0, column - 1); x <= Math.min(across - 1, column + 1); x++) {
          sum += values[y * across + x];
          count++;
        }
      }
      out[row * across + column] = sum / count;
    }
  }
  return out;
}
