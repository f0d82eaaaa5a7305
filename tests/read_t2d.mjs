// Reads many .t2d files with the page's reader, for tests/test_viewer_reader.py: a file of files,
// each after its length. Prints what each holds, or the sentence that says what is wrong. A second
// argument is the fraction of the Gaussians that is read, or "start": what has come of it.

import { readFileSync } from "node:fs";
import { FormatError } from "../viewer/body.js";
import { crc32, read, readStart } from "../viewer/t2d.js";

const data = readFileSync(process.argv[2]);
const results = [];
for (let at = 0; at < data.length; ) {
  const length = data.readUInt32LE(at);
  results.push(resultOf(data.subarray(at + 4, at + 4 + length)));
  at += 4 + length;
}
console.log(JSON.stringify(results));

function resultOf(file) {
  const began = performance.now();
  let result;
  try {
    const how = process.argv[3] ?? "1";
    const found = how === "start" ? readStart(file) : read(file, Number(how));
    const { columns, ...rest } = found ?? { columns: [], k: 0 };
    const crcs = columns.map((column) => crc32(new Uint8Array(column.buffer)));
    result = { ...rest, columns: crcs };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    result = { error: error.message };
  }
  return { ...result, ms: performance.now() - began };
}
