// A decoder of raw DEFLATE (RFC 1951) that stops at so many bytes, which the browser's own cannot.

import { CodedError } from "./lzma.js";

const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
  99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5,
  5, 5, 0];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769,
  1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST = 15; // bits of a code

/**
 * Decode raw DEFLATE, and stop at so many bytes.
 *
 * Every turn of a loop takes bits, of which there are only so many, or writes bytes.
 *
 * @param {Uint8Array} coded
 * @param {number} most bytes to decode, at most
 * @returns {Uint8Array}
 */
export function inflate(coded, most) {
  const bits = new Bits(coded);
  const out = new Uint8Array(most);
  let [at, last] = [0, 0];
  while (!last && at < most) {
    last = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) at = stored(bits, out, at);
    else if (kind === 1) at = block(bits, out, at, fixedLiterals(), fixedDistances());
    else if (kind === 2) at = block(bits, out, at, ...tables(bits));
    else throw new CodedError("a block of an unknown kind");
  }
  return out.subarray(0, at);
}

function stored(bits, out, at) {
  bits.align();
  const length = bits.take(16);
  if (bits.take(16) !== (length ^ 0xffff)) throw new CodedError("a stored block is damaged");
  const end = Math.min(at + length, out.length);
  while (at < end) out[at++] = bits.take(8);
  return at;
}

function block(bits, out, at, literals, distances) {
  while (at < out.length) {
    const symbol = literals.decode(bits);
    if (symbol < 256) {
      out[at++] = symbol;
      continue;
    }
    if (symbol === 256) break;
    if (symbol > 285) throw new CodedError("a length of an unknown kind");
    const length = LENGTHS[symbol - 257] + bits.take(LENGTH_BITS[symbol - 257]);
    const kind = distances.decode(bits);
    if (kind > 29) throw new CodedError("a distance of an unknown kind");
    const distance = DISTANCES[kind] + bits.take(kind < 2 ? 0 : (kind >> 1) - 1);
    if (distance > at) throw new CodedError("a match begins before the first byte");
    const end = Math.min(at + length, out.length);
    for (; at < end; at++) out[at] = out[at - distance];
  }
  return at;
}

function fixedLiterals() {
  const lengths = new Uint8Array(288).fill(8);
  lengths.fill(9, 144, 256);
  lengths.fill(7, 256, 280);
  return new Huffman(lengths, 0);
}

function fixedDistances() {
  return new Huffman(new Uint8Array(32).fill(5), 0);
}

/** The two tables that come before a block. */
function tables(bits) {
  const literals = bits.take(5) + 257;
  const distances = bits.take(5) + 1;
  const count = bits.take(4) + 4;
  if (literals > 286 || distances > 30) throw new CodedError("too many lengths of codes");
  const first = new Uint8Array(19);
  for (let i = 0; i < count; i++) first[ORDER[i]] = bits.take(3);
  const code = new Huffman(first, 0);
  const lengths = new Uint8Array(literals + distances);
  for (let at = 0; at < lengths.length; ) {
    const symbol = code.decode(bits);
    if (symbol < 16) {
      lengths[at++] = symbol;
      continue;
    }
    if (symbol === 16 && !at) throw new CodedError("no length of a code to repeat");
    const value = symbol === 16 ? lengths[at - 1] : 0;
    const times = symbol === 16 ? 3 + bits.take(2)
      : symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    if (at + times > lengths.length) throw new CodedError("too many lengths of codes");
    lengths.fill(value, at, at + times);
    at += times;
  }
  if (!lengths[256]) throw new CodedError("a block without an end");
  return [new Huffman(lengths.subarray(0, literals), 1),
    new Huffman(lengths.subarray(literals), 2)];
}

class Huffman {
  /**
   * @param {Uint8Array} lengths of the code of each symbol, 0 for none
   * @param {number} lone 0: the codes must fill the tree; 1: or be a single one of one bit;
   *     2: or be none at all
   */
  constructor(lengths, lone) {
    this.counts = new Uint16Array(LONGEST + 1);
    for (const length of lengths) this.counts[length]++;
    const used = lengths.length - this.counts[0];
    this.counts[0] = 0;
    let left = 1;
    for (let length = 1; length <= LONGEST; length++) {
      left = 2 * left - this.counts[length];
      if (left < 0) throw new CodedError("codes that overlap");
    }
    const single = used === 1 && this.counts[1] === 1;
    if (left && !(lone && single) && !(lone === 2 && !used)) {
      throw new CodedError("codes that are not complete");
    }
    const next = new Uint16Array(LONGEST + 2);
    for (let length = 1; length <= LONGEST; length++) {
      next[length + 1] = next[length] + this.counts[length];
    }
    this.symbols = new Uint16Array(used);
    lengths.forEach((length, symbol) => {
      if (length) this.symbols[next[length]++] = symbol;
    });
  }

  decode(bits) {
    let [code, first, index] = [0, 0, 0];
    for (let length = 1; length <= LONGEST; length++) {
      code |= bits.take(1);
      const count = this.counts[length];
      if (code - first < count) return this.symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new CodedError("a code that means nothing");
  }
}

class Bits {
  constructor(coded) {
    this.coded = coded;
    this.at = 0;
    this.held = 0;
    this.count = 0;
  }

  take(count) {
    while (this.count < count) {
      if (this.at >= this.coded.length) throw new CodedError("it ends too early");
      this.held |= this.coded[this.at++] << this.count;
      this.count += 8;
    }
    const taken = this.held & ((1 << count) - 1);
    this.held >>>= count;
    this.count -= count;
    return taken;
  }

  align() {
    this.held = 0;
    this.count = 0;
  }
}
