// What runs on the GPU. Rows of every texture that is drawn into go down, as those of pictures do.

const HEAD = `#version 300 es
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
const FETCH = `
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
  return CHANNELS == 1 ? vec4(color.xxx, 1.0)
    : CHANNELS == 2 ? vec4(color.xxx, color.y)
    : CHANNELS == 3 ? vec4(color.xyz, 1.0) : color;
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

/** The nearest K of what covers a point, in order, then their blend. */
const NEAREST = `
vec4 render(vec2 at, uint first, uint end) {
  float distances[K];
  int nearest[K];
  for (int j = 0; j < K; j++) {
    distances[j] = 1e30;
    nearest[j] = -1;
  }
  for (uint i = first; i < end; i++) {
    int g = entryAt(i);
    if (g >= most) break;
    vec4 a = texel(g, 0);
    vec2 v = texel(g, 1).xy;
    vec2 d = at - a.xy;
    float along = dot(d, a.zw);
    float across = dot(d, v);
    float q = along * along + across * across;
    if (q > support || q >= distances[K - 1]) continue;
    for (int j = K - 1; j > 0; j--) {
      bool after = distances[j - 1] > q;
      bool here = distances[j] > q;
      nearest[j] = after ? nearest[j - 1] : here ? g : nearest[j];
      distances[j] = after ? distances[j - 1] : here ? q : distances[j];
    }
    if (distances[0] > q) {
      nearest[0] = g;
      distances[0] = q;
    }
  }
  vec4 color = vec4(0.0);
  float weight = 0.0;
  for (int j = 0; j < K; j++) {
    if (nearest[j] < 0) break;
    float w = exp(-0.5 * distances[j]);
    weight += w;
    color += w * colorOf(nearest[j]);
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
export function splat(kind, { texels, channels, topK, blend }) {
  const body = { nearest: NEAREST, all: ALL, average: AVERAGE }[kind];
  const [declared, main] = LISTED.split("void main()");
  return `${HEAD}
#define TEXELS ${texels}
#define CHANNELS ${channels}
#define K ${topK}
#define NORMALIZED ${blend === "normalized"}
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

/** A quad around each Gaussian: its ellipse at one deviation, or a dot at its centre. */
export const MARK_CORNERS = (texels) => `${HEAD}
#define TEXELS ${texels}
${FETCH}
uniform int first;
uniform vec2 origin;
uniform float pitch;
uniform vec2 frame;
uniform float dot_;      // radius of a dot in pixels, or 0 for an ellipse
uniform float least;     // half-axis of an ellipse, at least
uniform float line;      // its width
uniform int channels;
uniform float lift;      // 1 on a dark ground, 0 on a picture
out vec2 local;
flat out vec2 radii;
flat out vec3 ink;

vec3 inkOf(vec4 color) {
  vec3 c = channels < 3 ? color.xxx : color.xyz;
  c = clamp(c, 0.0, 1.0);
  float bright = dot(c, vec3(0.299, 0.587, 0.114));
  vec3 lifted = mix(c, vec3(1.0), 0.1 + 0.4 * (1.0 - bright) * (1.0 - bright));
  vec3 against = bright > 0.55 ? 0.3 * c : mix(c, vec3(1.0), 0.7);
  return mix(against, lifted, lift);
}

void main() {
  int g = first + gl_InstanceID;
  vec4 a = texel(g, 0);
  vec2 v = texel(g, 1).xy;
  float area = 1.0 / (a.z * v.y - a.w * v.x);
  vec2 one = vec2(v.y, -v.x) * area / pitch;
  vec2 two = vec2(-a.w, a.z) * area / pitch;
  radii = dot_ > 0.0 ? vec2(dot_) : max(vec2(length(one), length(two)), vec2(least));
  vec2 corner = 2.0 * vec2(gl_VertexID & 1, gl_VertexID >> 1) - 1.0;
  local = corner * (radii + line + 1.0);
  vec2 axis = length(one) > 0.0 ? normalize(one) : vec2(1.0, 0.0);
  vec2 middle = a.xy / pitch - origin;
  vec2 place = middle + axis * local.x + vec2(-axis.y, axis.x) * local.y;
  ink = inkOf(colorOf(g));
  gl_Position = vec4(2.0 * place / frame - 1.0, 0.0, 1.0);
}`;

export const MARK = `${HEAD}
in vec2 local;
flat in vec2 radii;
flat in vec3 ink;
uniform float dot_;
uniform float line;
out vec4 result;
void main() {
  float k0 = length(local / radii);
  float k1 = length(local / (radii * radii));
  float away = k1 > 0.0 ? k0 * (k0 - 1.0) / k1 : -min(radii.x, radii.y);
  float alpha = dot_ > 0.0 ? clamp(0.5 - away, 0.0, 1.0)
    : clamp(0.5 + 0.5 * line - abs(away), 0.0, 1.0) * min(1.0, line);
  if (alpha <= 0.0) discard;
  result = vec4(ink, 1.0) * alpha;
}`;

/** All layers, one over the other, on the canvas. */
export const COMPOSE = `${HEAD}
uniform sampler2D left;
uniform sampler2D right;
uniform sampler2D marks;
uniform sampler2D dense;
uniform int kind;          // 0: left, 1: right, 2: their difference
uniform float divider;     // pixels from the left edge, right of which is the right one
uniform float gain;        // of differences
uniform float strength;    // of the picture
uniform float density;     // strength of the heatmap
uniform vec4 marksView;    // scale and offset from this frame's pixels to those of the marks
uniform float marksStrength;
uniform vec2 origin;
uniform float pitch;
uniform vec2 size;
uniform vec2 denseSize;    // of the heatmap's whole texels, in pixels of the picture
uniform vec2 frame;
uniform vec3 ground;
uniform vec3 checks[2];
uniform float check;       // side of a check
out vec4 result;

const vec3 DARK = vec3(0.06, 0.055, 0.075);  // what a picture fades to

vec3 heat(float v) {       // near to matplotlib's inferno
  vec3 a = vec3(0.0, 0.0, 0.02), b = vec3(0.35, 0.07, 0.43), c = vec3(0.74, 0.21, 0.33),
    d = vec3(0.97, 0.55, 0.04), e = vec3(0.99, 1.0, 0.64);
  return v < 0.25 ? mix(a, b, v * 4.0) : v < 0.5 ? mix(b, c, v * 4.0 - 1.0)
    : v < 0.75 ? mix(c, d, v * 4.0 - 2.0) : mix(d, e, v * 4.0 - 3.0);
}

void main() {
  vec2 spot = vec2(gl_FragCoord.x, frame.y - gl_FragCoord.y);
  vec2 at = (floor(spot) + origin + 0.5) * pitch;
  vec3 shown = ground;
  if (all(greaterThanEqual(at, vec2(0.0))) && all(lessThan(at, size))) {
    ivec2 pixel = ivec2(spot);
    vec4 one = texelFetch(left, pixel, 0);
    vec4 two = texelFetch(right, pixel, 0);
    vec4 color = kind == 1 || spot.x > divider ? two : one;
    if (kind == 2) {
      vec4 gap = abs(one - two) * gain;
      color = vec4(max(gap.rgb, gap.aaa), 1.0);
    }
    ivec2 square = ivec2(spot / check);
    vec3 behind = checks[(square.x + square.y) & 1];
    shown = mix(DARK, color.rgb + (1.0 - color.a) * behind, strength);
    if (density > 0.0) shown = mix(shown, heat(texture(dense, at / denseSize).r), density);
  }
  vec4 mark = textureLod(marks, (spot * marksView.xy + marksView.zw) / frame, 0.0);
  shown = shown * (1.0 - mark.a * marksStrength) + mark.rgb * marksStrength;
  result = vec4(shown, 1.0);
}`;
