// The little of WebGL2 that is needed: programs, textures, frames to draw into.

/** A context, or an error that says what is missing. */
export function contextOf(canvas) {
  const gl = canvas.getContext("webgl2", {
    alpha: false, antialias: false, depth: false, powerPreference: "high-performance",
  });
  if (!gl) throw new Error("this browser has no WebGL2, which draws the picture");
  gl.disable(gl.DITHER);
  gl.bindVertexArray(gl.createVertexArray());
  return gl;
}

/** A program whose uniforms are set by name; what the compiler left out is passed over. */
export class Program {
  constructor(gl, vertex, fragment) {
    this.gl = gl;
    this.program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
      gl.deleteShader(shader);
      this.log = () => gl.getShaderInfoLog(shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`a shader does not compile: ${gl.getProgramInfoLog(this.program)}`);
    }
    this.uniforms = new Map();
    const count = gl.getProgramParameter(this.program, gl.ACTIVE_UNIFORMS) ?? 0;
    for (let i = 0; i < count; i++) {
      const { name, type } = gl.getActiveUniform(this.program, i);
      this.uniforms.set(name, { type, at: gl.getUniformLocation(this.program, name) });
    }
  }

  /** Use it, with values by name: numbers, arrays of them, or textures. */
  use(values) {
    const { gl } = this;
    gl.useProgram(this.program);
    let unit = 0;
    for (const [name, { type, at }] of this.uniforms) {
      const value = values[name.replace("[0]", "")];
      if (type === gl.SAMPLER_2D || type === gl.UNSIGNED_INT_SAMPLER_2D) {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, value);
        gl.uniform1i(at, unit++);
      } else if (type === gl.FLOAT) gl.uniform1f(at, value);
      else if (type === gl.INT) gl.uniform1i(at, value);
      else if (type === gl.INT_VEC2) gl.uniform2iv(at, value);
      else if (type === gl.FLOAT_VEC2) gl.uniform2fv(at, value);
      else if (type === gl.FLOAT_VEC3) gl.uniform3fv(at, value);
      else if (type === gl.FLOAT_VEC4) gl.uniform4fv(at, value);
    }
  }

  close() {
    this.gl.deleteProgram(this.program);
  }
}

const KINDS = { rgba32f: 4, rg32ui: 2, r32ui: 1 };

/** How many columns, as a power of 2, textures of rows have that hold long lists. */
export function columnBits(gl) {
  return Math.min(12, Math.floor(Math.log2(gl.getParameter(gl.MAX_TEXTURE_SIZE))));
}

/** A texture of numbers that lie row by row. */
export function listTexture(gl, kind, values) {
  const across = 2 ** columnBits(gl);
  const down = Math.max(1, Math.ceil(values.length / KINDS[kind] / across));
  if (down > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error("too many Gaussians for this device");
  }
  const [inner, format, type] = {
    rgba32f: [gl.RGBA32F, gl.RGBA, gl.FLOAT],
    rg32ui: [gl.RG32UI, gl.RG_INTEGER, gl.UNSIGNED_INT],
    r32ui: [gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT],
  }[kind];
  const texture = bareTexture(gl, gl.NEAREST);
  gl.texStorage2D(gl.TEXTURE_2D, 1, inner, across, down);
  const row = across * KINDS[kind];
  const whole = Math.floor(values.length / row);
  if (whole) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, across, whole, format, type, values);
  const rest = values.subarray(whole * row);
  if (rest.length) {
    gl.texSubImage2D(
      gl.TEXTURE_2D, 0, 0, whole, rest.length / KINDS[kind], 1, format, type, rest);
  }
  return texture;
}

/** A texture of one byte for each texel, interpolated between. */
export function byteTexture(gl, across, down, values) {
  const texture = bareTexture(gl, gl.LINEAR);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.texImage2D(
    gl.TEXTURE_2D, 0, gl.R8, across, down, 0, gl.RED, gl.UNSIGNED_BYTE, values);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
  return texture;
}

/** A texture of a picture, with smaller copies of it. */
export function pictureTexture(gl, { width, height, bitmap }) {
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  if (Math.max(width, height) > most) {
    throw new Error(`${width}x${height} pixels; this device shows up to ${most} a side`);
  }
  const texture = bareTexture(gl, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.generateMipmap(gl.TEXTURE_2D);
  return texture;
}

function bareTexture(gl, filter) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return texture;
}

/** Pixels to draw into, 8 bits of each channel, multiplied by their opacity. */
export class Frame {
  constructor(gl, width, height) {
    this.gl = gl;
    this.width = width;
    this.height = height;
    this.texture = bareTexture(gl, gl.LINEAR);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    this.buffer = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.texture, 0);
    this.clear();
  }

  /** Draw into a part of it, the whole unless told. */
  bind([x, y, width, height] = [0, 0, this.width, this.height]) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.viewport(0, 0, this.width, this.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(x, y, width, height);
  }

  clear() {
    this.bind();
    this.gl.clearColor(0, 0, 0, 0);
    this.gl.clear(this.gl.COLOR_BUFFER_BIT);
  }

  pixels(width = this.width, height = this.height) {
    const { gl } = this;
    const out = new Uint8Array(4 * width * height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, out);
    return out;
  }

  close() {
    this.gl.deleteFramebuffer(this.buffer);
    this.gl.deleteTexture(this.texture);
  }
}

/** Draw one triangle that covers all. */
export function cover(gl) {
  gl.drawArrays(gl.TRIANGLES, 0, 3);
}
