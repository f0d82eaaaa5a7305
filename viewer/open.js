// Opening files: the page's end of the worker, and original pictures.

/** The worker of one file; its commands are promises. */
export class Reader {
  constructor() {
    this.worker = newWorker();
    this.waiting = new Map();
    this.asked = 0;
    this.worker.onmessage = ({ data: { number, result, error } }) => {
      const { resolve, reject } = this.waiting.get(number);
      this.waiting.delete(number);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) {
        reject(new Error(`the reader has failed (${event.message})`));
      }
      this.waiting.clear();
    };
  }

  ask(command, rest = {}, transfer = []) {
    const number = this.asked++;
    this.worker.postMessage({ number, command, ...rest }, transfer);
    return new Promise((resolve, reject) => this.waiting.set(number, { resolve, reject }));
  }

  close() {
    this.worker.terminate();
  }
}

/** A page that is one file brings the worker's source with it. */
function newWorker() {
  const source = document.getElementById("worker-source");
  if (!source) return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const url = URL.createObjectURL(new Blob([source.textContent], { type: "text/javascript" }));
  return new Worker(url); // its source has no imports left
}

/**
 * The bytes of an answer of a server.
 *
 * @param {(data: ArrayBuffer) => Promise} show is given what has come so far, so that the first
 *     sections of a progressive file are seen before the rest; null if nothing is to be seen
 */
export async function fetched(answer, show) {
  let data = new Uint8Array(1 << 16);
  let [length, next] = [0, show ? 1 << 12 : Infinity];
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return data.slice(0, length).buffer;
    if (length + value.length > data.length) {
      const more = new Uint8Array(2 * (length + value.length));
      more.set(data);
      data = more;
    }
    data.set(value, length);
    length += value.length;
    if (length < next) continue;
    // What cannot be shown yet is no error, and what is damaged is told of when all has come.
    const seen = await show(data.slice(0, length).buffer).then(() => true, () => false);
    next = (seen ? 2.5 : 1.5) * length; // the second section ends where there is twice as much
  }
}

/** Whether a file's name or first bytes are those of Gaussians. */
export function isGaussians(name, data) {
  const start = new Uint8Array(data, 0, Math.min(4, data.byteLength));
  return /\.t2d$/i.test(name) || [0x8a, 0x54, 0x32, 0x44].every((octet, i) => start[i] === octet);
}

/**
 * Decode a picture as it is: its colours unchanged, its orientation applied.
 *
 * @returns {Promise<{name: string, width: number, height: number, bitmap: ImageBitmap}>}
 */
export async function openPicture(name, data) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([data]), { premultiplyAlpha: "premultiply" });
  } catch {
    throw new Error("not a .t2d file, and no picture that this browser can read");
  }
  return { name, width: bitmap.width, height: bitmap.height, bitmap };
}
