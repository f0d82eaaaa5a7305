// What the channels of a picture are: maps of colours or of other numbers, of which the first is
// shown.

import { FormatError } from "./body.js";

const KINDS = ["srgb", "linear", "pq", "data"];
const DEPTHS = [8, 16, 32];
const MOST = 4; // channels of a map
const LONGEST = 60; // characters of a name
const NARROW = 2 ** -100; // from low to high, at least
const NAMED = /^(?:[^\p{C}\p{Z}/\\:*?"<>|]| )*$/u;

/**
 * Read the maps of a file that has some.
 *
 * @param {Body} body what follows the header
 * @param {number} channels of the file
 * @returns {{name: string, channels: number, kind: string, bits: number, low: number,
 *     high: number}[]}
 */
export function readMaps(body, channels) {
  const count = body.view(1).getUint8(0);
  const maps = Array.from({ length: count }, () => readMap(body));
  const total = maps.reduce((sum, map) => sum + map.channels, 0);
  const names = new Set(maps.map((map) => map.name.toLowerCase()));
  if (total !== (count ? channels : 0)) throw new FormatError("its maps have other channels");
  if (names.size < count || (count > 1 && names.has(""))) {
    throw new FormatError("its maps have no names of their own");
  }
  return maps;
}

function readMap(body) {
  const octets = body.take(body.view(1).getUint8(0));
  let name;
  try {
    name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets);
  } catch {
    throw new FormatError("damaged: a map has no name");
  }
  const rest = body.view(11);
  const [channels, kind, bits] = [0, 1, 2].map((at) => rest.getUint8(at));
  const [low, high] = [3, 7].map((at) => rest.getFloat32(at, true));
  const free = kind === 1 || kind === 3;
  const inRange = channels >= 1 && channels <= MOST && kind < KINDS.length && DEPTHS.includes(bits)
    && [...name].length <= LONGEST && NAMED.test(name) && !/^[ .]|[ .]$/.test(name)
    && (free || low === 0) && (kind !== 0 || high === 1)
    && high - low >= NARROW && high - low < Infinity;
  if (!inRange) throw new FormatError("a map is out of range");
  return { name, channels, kind: KINDS[kind], bits, low, high };
}

/** How many channels of a file are drawn: those of its first map that are a colour and opacity. */
export function drawn({ channels, maps }) {
  if (!maps?.length) return channels > 4 ? 3 : channels;
  const [first] = maps;
  return first.kind === "data" && first.channels % 2 === 0 ? first.channels - 1 : first.channels;
}

/** Sentences on what of a file is not shown. */
export function mapNotes({ channels, maps }) {
  if (!maps?.length) {
    return channels > 4 ? [`The first three of ${channels} channels are shown.`] : [];
  }
  const [first, ...others] = maps;
  const found = [];
  if (others.length) {
    found.push(`Of the maps ${maps.map((map) => map.name).join(", ")} the first is shown.`);
  }
  if (drawn({ channels, maps }) < first.channels) found.push("Its last channel is not shown.");
  if (first.kind !== "srgb" && first.kind !== "data" && first.high > 1) {
    found.push("Light beyond the white of sRGB is cut.");
  }
  return found;
}

/** What the channels are, in a few words. */
export function mapFacts({ maps }) {
  if (!maps?.length) return {};
  const told = maps.map(({ name, channels, kind, bits }) => (
    `${name} ${channels} ${kind}, ${bits} bits`.trim()));
  return { Maps: told.join("; ") };
}

/**
 * The function of a shader that takes clamped stored values, multiplied by opacity, to sRGB.
 *
 * @param {{kind: string, low: number, high: number}} map the first one of a file, if it has any
 */
export function toShown(map) {
  if (!map || map.kind === "srgb" || map.kind === "data") {
    return "vec4 toShown(vec4 stored) { return stored; }";
  }
  const [low, high] = [map.low, map.high].map((end) => end.toExponential());
  return `
vec3 lightOf(vec3 v) {
  if (${map.kind === "linear"}) return ${low} + (${high} - ${low}) * v;
  vec3 root = pow(v, vec3(32.0 / 2523.0));
  vec3 share = max(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root);
  return ${high} * pow(share, vec3(16384.0 / 2610.0));
}
vec4 toShown(vec4 stored) {
  vec3 light = clamp(lightOf(clamp(stored.rgb / max(stored.a, 1e-3), 0.0, 1.0)), 0.0, 1.0);
  vec3 bright = 1.055 * pow(light, vec3(1.0 / 2.4)) - 0.055;
  vec3 seen = mix(bright, 12.92 * light, vec3(lessThan(light, vec3(0.0031308))));
  return vec4(seen * stored.a, stored.a);
}`;
}
