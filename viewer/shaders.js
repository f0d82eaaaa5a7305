// What runs on the GPU. Rows of every texture that is drawn into go down, as those of pictures do.

import { toShown } from "./maps.js";

export const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;
`;

/** Covers what is drawn to with one triangle. */
export const COVER = `${HEAD}
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4(4.0 * corner - 1.0, 0.0, 1.0);
}`;

/** Texels lie row by row in textures of 2^bits columns. */
export const FETCH = `
uniform sampler2D gaussians;
uniform int bits;
ivec2 spot(int index) { return ivec2(index & ((1 << bits) - 1), index >> bits); }
vec4 texel(int g, int part) { return texelFetch(gaussians, spot(g * TEXELS + part), 0); }
vec4 colorOf(int g) {
  vec2 low = texel(g, 1).zw;
  return vec4(low, TEXELS > 2 ? texel(g, 2).xy : vec2(0.0));
}`;

const LISTED = `${FETCH}
uniform usampler2D entries;
uniform usampler2D cells;
uniform ivec2 grid;     // columns and rows of cells
uniform float side;     // of a cell, in pixels of the picture
uniform vec2 origin;    // pixels drawn, from the picture's corner to the frame's
uniform float pitch;    // of a pixel drawn, in pixels of the picture
uniform vec2 size;      // of the picture
uniform float support;  // squared cutoff
uniform float eps;
uniform float spread;   // variance that a pixel adds
uniform int most;       // Gaussians that count: the first ones
out vec4 result;

uvec2 listAt(vec2 at) {
  ivec2 cell = clamp(ivec2(at / side), ivec2(0), grid - 1);
  return texelFetch(cells, spot(cell.y * grid.x + cell.x), 0).xy;
}
int entryAt(uint index) { return int(texelFetch(entries, spot(int(index)), 0).x); }

vec4 shown(vec4 color) {
  color = clamp(color, 0.0, 1.0);
  return toShown(CHANNELS == 1 ? vec4(color.xxx, 1.0)
    : CHANNELS == 2 ? vec4(color.xxx, color.y)
    : CHANNELS == 3 ? vec4(color.xyz, 1.0) : color);
}

vec4 blended(vec4 color, float weight) {
  return shown(NORMALIZED ? color / (weight + eps) : color);
}

void main() {
  vec2 at = (floor(gl_FragCoord.xy) + origin + 0.5) * pitch;
  if (any(lessThan(at, vec2(0.0))) || any(greaterThanEqual(at, size))) {
    result = vec4(0.0);
    return;
  }
  uvec2 list = listAt(at);
  result = render(at, list.x, list.x + list.y);
}`;

/**
 * The nearest K of what covers a point: their distances first, of which the last is the threshold,
 * then what is not beyond it. A compiler may round a distance in the second pass another way than
 * in the first, so what is as far as the threshold to within that is counted as a tie.
 */
const NEAREST = `
const float NEAR = 5e-7;
float distanceOf(int g, vec2 at, out vec4 b) {
  vec4 a = texel(g, 0);
  b = texel(g, 1);
  vec2 d = at - a.xy;
  vec2 white = vec2(dot(d, a.zw), dot(d, b.xy));
  return dot(white, white);
}

vec4 render(vec2 at, uint first, uint end) {
  float nearest[K];
  for (int j = 0; j < K; j++) nearest[j] = 1e30;
  vec4 b;
  for (uint i = first; i < end; i++) {
    int g = entryAt(i);
    if (g >= most) break;
    float q = distanceOf(g, at, b);
    if (q > support || q >= nearest[K - 1]) continue;
    for (int j = 0; j < K; j++) {
      float held = nearest[j];
      nearest[j] = min(held, q);
      q = max(held, q);
    }
  }
  float sure = nearest[K - 1] * (1.0 - NEAR);
  float tie = nearest[K - 1] * (1.0 + NEAR);
  int ties = 0;
  for (int j = 0; j < K; j++) ties += nearest[j] >= sure ? 1 : 0;
  vec4 color = vec4(0.0);
  float weight = 0.0;
  for (uint i = first; i < end; i++) {
    int g = entryAt(i);
    if (g >= most) break;
    float q = distanceOf(g, at, b);
    if (q > support || q > tie) continue;
    if (q >= sure) {
      if (ties == 0) continue;
      ties--;
    }
    float w = exp(-0.5 * q);
    weight += w;
    color += w * vec4(b.zw, TEXELS > 2 ? texel(g, 2).xy : vec2(0.0));
  }
  return blended(color, weight);
}`;

/** All that covers a point. */
const ALL = `
vec4 render(vec2 at, uint first, uint end) {
  vec4 color = vec4(0.0);
  for (uint i = first; i < end; i++) {
    int g = entryAt(i);
    if (g >= most) break;
    vec4 a = texel(g, 0);
    vec2 v = texel(g, 1).xy;
    vec2 d = at - a.xy;
    float along = dot(d, a.zw);
    float across = dot(d, v);
    float q = along * along + across * across;
    if (q <= support) color += exp(-0.5 * q) * colorOf(g);
  }
  return blended(color, 0.0);
}`;

/** All that covers a large pixel, each spread over it with its integral kept. */
const AVERAGE = `
vec4 render(vec2 at, uint first, uint end) {
  vec4 color = vec4(0.0);
  float weight = 0.0;
  for (uint i = first; i < end; i++) {
    int g = entryAt(i);
    if (g >= most) break;
    vec4 a = texel(g, 0);
    vec2 v = texel(g, 1).xy;
    vec2 d = at - a.xy;
    float area = 1.0 / (a.z * v.y - a.w * v.x);  // the product of both deviations
    vec2 one = vec2(v.y, -v.x) * area;
    vec2 two = vec2(-a.w, a.z) * area;
    vec2 along = one * one + two * two;          // variances along x and y
    float l0 = sqrt(along.x + spread);
    float l1 = (one.x * one.y + two.x * two.y) / l0;
    float l2 = sqrt(area * area + spread * (along.x + along.y) + spread * spread) / l0;
    vec2 white = vec2(d.x / l0, (d.y - l1 * d.x / l0) / l2);
    float q = dot(white, white);
    if (q > support) continue;
    float w = exp(-0.5 * q) * area / (l0 * l2);
    weight += w;
    color += w * colorOf(g);
  }
  return blended(color, weight);
}`;

/**
 * The fragment shader that draws Gaussians.
 *
 * @param {"nearest"|"all"|"average"} kind
 */
export function splat(kind, { texels, channels, topK, blend, map }) {
  const body = { nearest: NEAREST, all: ALL, average: AVERAGE }[kind];
  const [declared, main] = LISTED.split("void main()");
  return `${HEAD}
#define TEXELS ${texels}
#define CHANNELS ${channels}
#define K ${topK}
#define NORMALIZED ${blend === "normalized"}
${toShown(map)}
${declared}${body}
void main()${main}`;
}

/** A picture: its own pixels from 1:1 on, averages below. */
export const PICTURE = `${HEAD}
uniform sampler2D picture;
uniform vec2 origin;
uniform float pitch;
uniform vec2 size;
out vec4 result;
void main() {
  vec2 at = (floor(gl_FragCoord.xy) + origin + 0.5) * pitch;
  bool inside = all(greaterThanEqual(at, vec2(0.0))) && all(lessThan(at, size));
  vec4 color = pitch > 1.0 ? textureLod(picture, at / size, log2(pitch))
    : texelFetch(picture, clamp(ivec2(at), ivec2(0), ivec2(size) - 1), 0);
  result = inside ? color : vec4(0.0);
}`;

/** What was drawn for another view, as a placeholder in this one. */
export const MOVE = `${HEAD}
uniform sampler2D old;
uniform vec2 origin;     // of this frame, and of the old one
uniform vec2 oldOrigin;
uniform float scale;     // old pixels for each pixel of this frame
out vec4 result;
void main() {
  vec2 at = (gl_FragCoord.xy + origin) * scale - oldOrigin;
  vec2 frame = vec2(textureSize(old, 0));
  bool inside = all(greaterThanEqual(at, vec2(0.0))) && all(lessThan(at, frame));
  result = inside ? textureLod(old, at / frame, 0.0) : vec4(0.0);
}`;
