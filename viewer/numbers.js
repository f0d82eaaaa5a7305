// What is known of a file in numbers, and how far its render is from the original.

import { drawn, mapFacts } from "./maps.js";

const PLAIN = new Intl.NumberFormat("en");

/** Names and values, to be shown in that order. */
export function factsOf(file) {
  const { height, width, channels, k, bytes, preset, settings, maps } = file;
  const facts = { Gaussians: PLAIN.format(k), Size: `${width} × ${height}` };
  if (bytes !== undefined) {
    facts.File = sizeOf(bytes);
    facts["Bits a pixel"] = ((8 * bytes) / (height * width)).toFixed(3);
    facts["Bits a Gaussian"] = ((8 * bytes) / Math.max(k, 1)).toFixed(1);
    facts.Quality = preset;
  }
  facts.Channels = { 1: "1, grey", 2: "2, grey and opacity", 3: "3, RGB", 4: "4, RGB and opacity" }[
    channels] ?? String(channels);
  if (maps?.length) facts.Channels = String(channels);
  Object.assign(facts, mapFacts(file));
  facts.Blend = settings.blend === "sum" ? "sum" : `nearest ${settings.topK}`;
  if (settings.tile) facts.Blend += ", wraps around";
  return facts;
}

export function plain(number) {
  return PLAIN.format(number);
}

function sizeOf(bytes) {
  if (bytes < 1e3) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

/**
 * The PSNR of a render in 8 bits against a picture of its size, in dB, over all channels that are
 * drawn; colours are compared as multiplied by opacity.
 */
export async function psnr(stage, model, picture, isStale) {
  const original = picture.pixels();
  const color = drawn(model) < 3 ? [0] : [0, 1, 2];
  const alpha = drawn(model) % 2 === 0;
  let [sum, count] = [0, 0];
  const add = (pixels, [x, y, width, height]) => {
    for (let row = 0; row < height; row++) {
      let to = 4 * ((y + row) * model.width + x);
      for (let at = 4 * row * width; at < 4 * (row + 1) * width; at += 4, to += 4) {
        const opacity = original[to + 3];
        for (const c of color) sum += (pixels[at + c] - (original[to + c] * opacity) / 255) ** 2;
        if (alpha) sum += (pixels[at + 3] - opacity) ** 2;
      }
    }
    count += height * width * (color.length + (alpha ? 1 : 0));
    if (isStale()) throw new Stale();
  };
  try {
    await stage.render(model, 1, [0, 0, model.width, model.height], add);
  } catch (error) {
    if (error instanceof Stale) return null;
    throw error;
  }
  return sum ? 10 * Math.log10(255 ** 2 / (sum / count)) : Infinity;
}

class Stale extends Error {}
