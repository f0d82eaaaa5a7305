// Pictures that wrap around: what leaves at one edge comes in at the other.

const STEPS = [-1, 0, 1];

/**
 * What is drawn of a file: its Gaussians, of a picture that wraps around with their centres brought
 * into it, and behind them their copies a width or a height away, as far as they reach into it.
 *
 * @param {object} file what `read` returns
 * @returns {object} the same, with other columns and another k
 */
export function wrapped(file) {
  const { width, height, k, columns, settings } = file;
  if (!settings.tile) return file;
  const [x, y, first, second, theta] = columns;
  const inside = [brought(x, width), brought(y, height)];
  const copies = [];
  for (let i = 0; i < k; i++) {
    const [co, si] = [Math.cos(theta[i]), Math.sin(theta[i])];
    const [a, b] = [Math.exp(2 * first[i]), Math.exp(2 * second[i])];
    const wide = settings.cutoff * Math.sqrt(co * co * a + si * si * b + width * width / 12);
    const high = settings.cutoff * Math.sqrt(si * si * a + co * co * b + height * height / 12);
    for (const down of STEPS) {
      for (const right of STEPS) {
        const [atX, atY] = [inside[0][i] + right * width, inside[1][i] + down * height];
        const reaches = atX + wide > 0 && atX - wide < width && atY + high > 0
          && atY - high < height;
        if ((right || down) && reaches) copies.push([i, atX, atY]);
      }
    }
  }
  const all = columns.map((column, c) => {
    const whole = new Float32Array(k + copies.length);
    whole.set(c < 2 ? inside[c] : column);
    copies.forEach((copy, n) => (whole[k + n] = c < 2 ? copy[1 + c] : column[copy[0]]));
    return whole;
  });
  return { ...file, k: k + copies.length, columns: all };
}

/** Coordinates from 0 on and below a period. */
function brought(column, period) {
  return column.map((value) => value - Math.floor(value / period) * period);
}
