// The streams that the body of a .t2d file is made of.

import { inflate } from "./inflate.js";
import { unlzma } from "./lzma.js";

const SHARE = 256; // digits that are one number
const DIGIT = 16; // bits of a place between its neighbours that are a digit
const LIMB = 2 ** 24; // such numbers are kept in base 2^24: products below stay exact
const PLACE = 2 ** 48; // places are taken modulo this

/** A file that is none, or is damaged; the message is one sentence. */
export class FormatError extends Error {}

/** Takes apart bytes that hold numbers for k Gaussians. */
export class Body {
  constructor(data, k) {
    this.data = data;
    this.k = k;
    this.at = 0;
  }

  take(count) {
    if (this.at + count > this.data.length) throw new FormatError("damaged: it ends too early");
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }

  view(count) {
    const bytes = this.take(count);
    return new DataView(bytes.buffer, bytes.byteOffset, count);
  }

  /**
   * Read a stream: the least number, and above it 55 bits of each, of which low has the lowest 32
   * as i32 and high the others. Bits of different origin never overlap, so none is carried.
   */
  stream() {
    const head = this.view(7);
    const least = head.getInt32(0, true);
    const [low, coder, planes] = [4, 5, 6].map((at) => head.getUint8(at));
    if (low + 8 * planes > 55 || !planes || coder > 2) {
      throw new FormatError("damaged: its numbers are coded in an unknown way");
    }
    const whole = { least, low: new Int32Array(this.k), high: new Int32Array(this.k) };
    const bits = this.take(Math.ceil((low * this.k) / 8));
    for (let bit = 0, at = 0; bit < low; bit++) {
      for (let i = 0; i < this.k; i++, at++) {
        if ((bits[at >> 3] >> (7 - (at & 7))) & 1) setBits(whole, i, 1, bit);
      }
    }
    for (let plane = 0; plane < planes; plane++) {
      const coded = this.take(this.view(4).getUint32(0, true));
      const octets = coder === 2 ? inflate(coded, this.k) : unlzma(coded, this.k, 3 * coder);
      if (octets.length < this.k) throw new FormatError("damaged: a plane of bytes is too short");
      for (let i = 0; i < this.k; i++) setBits(whole, i, octets[i], 8 * plane + low);
    }
    return whole;
  }

  /** A stream as numbers, exact where they are below 2^53. */
  numbers() {
    const { least, low, high } = this.stream();
    return Float64Array.from(low, (bits, i) => high[i] * 2 ** 32 + (bits >>> 0) + least);
  }

  /** A stream as the bits of float32. */
  floats() {
    const { least, low } = this.stream();
    return new Float32Array(low.map((bits) => bits + least).buffer);
  }

  /** A stream of distances, as places. */
  places() {
    const { least, low, high } = this.stream();
    let place = 0;
    return Float64Array.from(low, (bits, i) => {
      place += (high[i] & 0xffff) * 2 ** 32 + (bits >>> 0) + least;
      place -= Math.floor(place / PLACE) * PLACE;
      return place;
    });
  }

  /** A stream of distances, as places in order, none beyond the end. */
  placesUpTo(end) {
    let place = 0;
    return this.numbers().map((distance, i) => {
      place += distance;
      if ((i && distance < 0) || place < 0 || place > end) {
        throw new FormatError("damaged: places are not in order");
      }
      return place;
    });
  }

  /** Places, each from that of one neighbour to that of another. */
  placesBetween(before, after) {
    const low = after.map((place, i) => Math.max(0, bitsOf(place - before[i]) - DIGIT));
    const bases = after.map((place, i) => Math.floor((place - before[i]) / 2 ** low[i]) + 1);
    const digits = this.mixed(bases);
    const rest = this.bits(low);
    return digits.map((digit, i) => {
      const place = before[i] + digit * 2 ** low[i] + rest[i];
      if (place > after[i]) throw new FormatError("damaged: places are not in order");
      return place;
    });
  }

  /** Bits of numbers of which each has its own count. */
  bits(counts) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const most = counts.reduce((a, b) => Math.max(a, b), 0);
    const bits = this.take(Math.ceil(total / 8));
    const whole = new Float64Array(this.k);
    for (let bit = 0, at = 0; bit < most; bit++) {
      for (let i = 0; i < this.k; i++) {
        if (counts[i] <= bit) continue;
        whole[i] += ((bits[at >> 3] >> (7 - (at & 7))) & 1) * 2 ** bit;
        at++;
      }
    }
    return whole;
  }

  /** Digits of large numbers, each in a base of its own. */
  mixed(counts) {
    const digits = new Float64Array(this.k);
    for (let first = 0; first < this.k; first += SHARE) {
      const bases = Array.from(counts.subarray(first, first + SHARE));
      const limbs = limbsOf(this.take(bytesOf(bases)));
      let length = limbs.length;
      for (let i = 0; i < bases.length; i++) {
        let rest = 0;
        for (let j = length - 1; j >= 0; j--) {
          const value = rest * LIMB + limbs[j];
          limbs[j] = Math.floor(value / bases[i]);
          rest = value - limbs[j] * bases[i];
        }
        digits[first + i] = rest;
        while (length && !limbs[length - 1]) length--;
      }
      if (length) throw new FormatError("damaged: a number is out of range");
    }
    return digits;
  }
}

function setBits(whole, i, value, shift) {
  if (shift < 32) {
    whole.low[i] |= value << shift;
    if (shift > 24) whole.high[i] |= value >>> (32 - shift);
  } else {
    whole.high[i] |= value << (shift - 32);
  }
}

/** Little-endian bytes as numbers below 2^24. */
function limbsOf(bytes) {
  const limbs = new Float64Array(Math.ceil(bytes.length / 3));
  bytes.forEach((octet, i) => {
    limbs[Math.floor(i / 3)] += octet * 2 ** (8 * (i % 3));
  });
  return limbs;
}

/** How many bits a whole number below 2^53 has. */
function bitsOf(whole) {
  const high = Math.floor(whole / 2 ** 32);
  return high ? 64 - Math.clz32(high) : 32 - Math.clz32(whole);
}

/** How many bytes hold the product of all bases less 1. */
function bytesOf(bases) {
  const limbs = [1];
  for (const base of bases) {
    if (base === 1) continue;
    let carry = 0;
    for (let j = 0; j < limbs.length; j++) {
      const value = limbs[j] * base + carry;
      carry = Math.floor(value / LIMB);
      limbs[j] = value - carry * LIMB;
    }
    while (carry) {
      limbs.push(carry % LIMB);
      carry = Math.floor(carry / LIMB);
    }
  }
  let last = 0;
  while (!limbs[last]) limbs[last++] = LIMB - 1; // less 1, which is borrowed from the first above 0
  limbs[last]--;
  while (limbs.length > 1 && !limbs[limbs.length - 1]) limbs.pop();
  return Math.ceil((24 * (limbs.length - 1) + bitsOf(limbs[limbs.length - 1])) / 8);
}
