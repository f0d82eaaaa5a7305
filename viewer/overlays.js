// What runs on the GPU to draw marks, and to put all layers together on the canvas.

import { FETCH, HEAD } from "./shaders.js";

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
    bool beyond = kind == 1 || spot.x > divider;
    vec4 color = vec4(0.0);  // software looks up no more than it must
    if (kind == 2 || !beyond) color = texelFetch(left, pixel, 0);
    if (kind == 2) {
      vec4 gap = abs(color - texelFetch(right, pixel, 0)) * gain;
      color = vec4(max(gap.rgb, gap.aaa), 1.0);
    } else if (beyond) {
      color = texelFetch(right, pixel, 0);
    }
    ivec2 square = ivec2(spot / check);
    vec3 behind = checks[(square.x + square.y) & 1];
    shown = mix(DARK, color.rgb + (1.0 - color.a) * behind, strength);
    if (density > 0.0) shown = mix(shown, heat(texture(dense, at / denseSize).r), density);
  }
  if (marksStrength > 0.0) {
    vec4 mark = textureLod(marks, (spot * marksView.xy + marksView.zw) / frame, 0.0);
    shown = shown * (1.0 - mark.a * marksStrength) + mark.rgb * marksStrength;
  }
  result = vec4(shown, 1.0);
}`;
