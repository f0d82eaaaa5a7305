// A decoder of raw LZMA1 streams: those of .lzma files, without their header.

const DICTIONARY = 65536; // bytes back that a match may begin, at most
const HALF = 1024; // a probability of one half, in parts of 2048
const FAST = 5; // by how much of the error a probability adapts: a part of 2^5

/** What is wrong with coded bytes. */
export class CodedError extends Error {}

/**
 * Decode raw LZMA1 with lp = 0 and pb = 0, and stop at so many bytes.
 *
 * Every turn of the loop writes at least one byte or ends it, so it ends.
 *
 * @param {Uint8Array} coded
 * @param {number} most bytes to decode, at most
 * @param {number} lc highest bits of the byte before that tell how a literal is coded: 0 to 8
 * @returns {Uint8Array} the bytes up to the end marker, or to `most`
 */
export function unlzma(coded, most, lc) {
  const out = new Uint8Array(most);
  const range = new RangeDecoder(coded);
  const literals = halves(0x300 << lc);
  const isMatch = halves(12);
  const isRep = halves(12);
  const isRep0 = halves(12);
  const isRep1 = halves(12);
  const isRep2 = halves(12);
  const isRep0Long = halves(12);
  const slots = [0, 1, 2, 3].map(() => halves(64));
  const special = halves(128);
  const align = halves(16);
  const matchLengths = new Lengths();
  const repLengths = new Lengths();
  let [rep0, rep1, rep2, rep3, state, at] = [0, 0, 0, 0, 0, 0];

  while (at < most) {
    if (!range.bit(isMatch, state)) {
      const before = at ? out[at - 1] : 0;
      const base = 0x300 * (before >> (8 - lc));
      let symbol = 1;
      if (state >= 7) {
        if (rep0 >= at) throw new CodedError("a match begins before the first byte");
        let matched = out[at - rep0 - 1];
        while (symbol < 0x100) {
          const expected = (matched >> 7) & 1;
          matched <<= 1;
          const bit = range.bit(literals, base + ((1 + expected) << 8) + symbol);
          symbol = (symbol << 1) | bit;
          if (bit !== expected) break;
        }
      }
      while (symbol < 0x100) symbol = (symbol << 1) | range.bit(literals, base + symbol);
      out[at++] = symbol;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    let length;
    if (range.bit(isRep, state)) {
      if (!at) throw new CodedError("a match begins before the first byte");
      if (!range.bit(isRep0, state)) {
        if (!range.bit(isRep0Long, state)) {
          if (rep0 >= at) throw new CodedError("a match begins before the first byte");
          out[at] = out[at - rep0 - 1];
          at++;
          state = state < 7 ? 9 : 11;
          continue;
        }
      } else {
        let distance = rep1;
        if (range.bit(isRep1, state)) {
          distance = rep2;
          if (range.bit(isRep2, state)) {
            distance = rep3;
            rep3 = rep2;
          }
          rep2 = rep1;
        }
        rep1 = rep0;
        rep0 = distance;
      }
      length = repLengths.decode(range);
      state = state < 7 ? 8 : 11;
    } else {
      [rep3, rep2, rep1] = [rep2, rep1, rep0];
      length = matchLengths.decode(range);
      state = state < 7 ? 7 : 10;
      rep0 = distanceOf(range, slots[Math.min(length - 2, 3)], special, align);
      if (rep0 === 0xffffffff) return out.subarray(0, at); // the end marker
    }
    if (rep0 >= at || rep0 >= DICTIONARY) {
      throw new CodedError("a match begins before the first byte");
    }
    const end = Math.min(at + length, most);
    for (; at < end; at++) out[at] = out[at - rep0 - 1];
  }
  return out;
}

function halves(count) {
  return new Uint16Array(count).fill(HALF);
}

function distanceOf(range, slots, special, align) {
  const slot = range.tree(slots, 6);
  if (slot < 4) return slot;
  const bits = (slot >> 1) - 1;
  const high = (2 | (slot & 1)) * 2 ** bits;
  if (slot < 14) return high + range.reversed(special, high - slot, bits);
  return high + range.direct(bits - 4) * 16 + range.reversed(align, 0, 4);
}

class Lengths {
  constructor() {
    this.choice = halves(2);
    this.low = halves(8);
    this.middle = halves(8);
    this.high = halves(256);
  }

  decode(range) {
    if (!range.bit(this.choice, 0)) return 2 + range.tree(this.low, 3);
    if (!range.bit(this.choice, 1)) return 10 + range.tree(this.middle, 3);
    return 18 + range.tree(this.high, 8);
  }
}

class RangeDecoder {
  constructor(coded) {
    if (coded.length < 5) throw new CodedError("it ends too early");
    if (coded[0]) throw new CodedError("its first byte is not 0");
    this.coded = coded;
    this.at = 5;
    this.range = 0xffffffff;
    this.code = ((coded[1] << 24) | (coded[2] << 16) | (coded[3] << 8) | coded[4]) >>> 0;
  }

  normalise() {
    if (this.range >= 0x1000000) return;
    if (this.at >= this.coded.length) throw new CodedError("it ends too early");
    this.range = (this.range << 8) >>> 0;
    this.code = ((this.code << 8) | this.coded[this.at++]) >>> 0;
  }

  /** One bit, of a probability that adapts. */
  bit(table, index) {
    this.normalise();
    const probability = table[index];
    const bound = (this.range >>> 11) * probability;
    if (this.code < bound) {
      this.range = bound;
      table[index] = probability + ((2048 - probability) >> FAST);
      return 0;
    }
    this.range -= bound;
    this.code -= bound;
    table[index] = probability - (probability >> FAST);
    return 1;
  }

  /** Bits, the highest first, each with probabilities that depend on those before. */
  tree(table, bits) {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = (symbol << 1) | this.bit(table, symbol);
    return symbol - (1 << bits);
  }

  /** The same, the lowest first. */
  reversed(table, first, bits) {
    let [symbol, whole] = [1, 0];
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(table, first + symbol);
      symbol = (symbol << 1) | bit;
      whole |= bit << i;
    }
    return whole;
  }

  /** Bits that are as likely 0 as 1. */
  direct(bits) {
    let whole = 0;
    for (let i = 0; i < bits; i++) {
      this.normalise();
      this.range >>>= 1;
      const bit = this.code >= this.range ? 1 : 0;
      if (bit) this.code -= this.range;
      whole = whole * 2 + bit;
    }
    return whole;
  }
}
