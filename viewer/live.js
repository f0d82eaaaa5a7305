// A fit that goes on: its render sharpens, its curve grows, and a button ends it.

import { $ } from "./controls.js";
import { Model } from "./model.js";
import { plain } from "./numbers.js";
import { Reader } from "./open.js";

const ASK = 200; // milliseconds between two looks at the fit
const REST = 1; // times as long as a snapshot took, until the next is asked for: others need cores
const DARK = 0.3; // strength of the original, which nobody must take for the render
const PHASES = { starting: "Making a start", done: "Done", stopped: "Stopped",
  failed: "Failed", gone: "Its server has ended" };
const ENDS = ["done", "stopped", "failed", "gone"];
const [WIDE, HIGH, LEFT, BELOW] = [252, 96, 26, 14]; // of the curve, and of its margins
const LINES = [1, 2, 5, 10, 20, 50]; // dB between two lines

/** Follow the fit of this page's server; `parts` has the original picture. */
export async function followFit(page, parts) {
  $("live").hidden = false;
  await page.openAll(parts, 1); // is seen, darkly, until there are Gaussians
  page.stage.set({ kind: "right", strength: DARK });
  page.stage.fit();
  $("live-stop").addEventListener("click", () => {
    $("live-stop").disabled = true;
    fetch("live/stop", { method: "POST" }).catch(() => undefined);
  });
  $("live-close").addEventListener("click", () => { $("live").hidden = true; });
  const fit = { state: { phase: "starting", curve: [], number: 0 } };
  const drawing = draw(page, fit);
  while (!isOver(fit.state)) {
    fit.state = await ask(fit.state);
    show(page, fit.state);
    await soon(ASK);
  }
  await drawing;
  await end(page, fit.state);
}

function isOver({ phase }) {
  return ENDS.includes(phase);
}

/** Draw snapshots, each when the one before is drawn. */
async function draw(page, fit) {
  let number = 0;
  while (!isOver(fit.state)) {
    if (fit.state.number > number) {
      number = fit.state.number;
      const began = performance.now();
      await takeSnapshot(page, fit.state);
      await Promise.race([page.stage.settled(), over(fit)]);
      page.stage.set({
        kind: document.querySelector("input[name=kind]:checked").value,
        strength: Number($("strength").value) / 100,
      });
      await Promise.race([soon(REST * (performance.now() - began)), over(fit)]);
    }
    await soon(ASK);
  }
}

async function over(fit) {
  while (!isOver(fit.state)) await soon(ASK);
}

async function ask(before) {
  try {
    const answer = await fetch("live/state");
    return await answer.json();
  } catch {
    return { ...before, phase: "gone" };
  }
}

async function takeSnapshot(page, { picture, title }) {
  const answer = await fetch("live/snapshot").catch(() => null);
  if (!answer?.ok) return;
  const data = await answer.arrayBuffer();
  const { model, stage } = page;
  if (model) {
    await model.renew(picture, data, stage.view);
    stage.redraw();
    page.showFirst();
  } else {
    const reader = new Reader();
    const opened = await reader.ask("take", { facts: picture, data }, [data]);
    const made = new Model(stage.gl, reader, opened, (error) => page.listsHaveCome(error));
    made.name = title;
    page.place(0, made);
    page.update();
  }
}

/** Show the file that the fit has left, as any other. */
async function end(page, state) {
  page.live = null;
  const answer = await fetch("live/file").catch(() => null);
  if (answer?.ok) {
    const data = await answer.arrayBuffer();
    const name = `${state.title}.t2d`;
    const url = URL.createObjectURL(new Blob([data], { type: "application/octet-stream" }));
    Object.assign($("live-save"), { href: url, download: name, hidden: false });
    await page.openAll([{ name, data }]);
  }
  if (state.message) page.say(state.message);
}

function show(page, state) {
  const { phase, k, step, elapsed, psnr, steps, seconds, curve } = state;
  const ended = isOver(state);
  page.live = Number.isFinite(psnr) ? `${psnr.toFixed(2)} dB` : "…";
  $("live-psnr").textContent = Number.isFinite(psnr) ? `${psnr.toFixed(2)} dB` : "";
  $("live-phase").textContent = phase === "fitting" ? `${plain(k)} Gaussians` : PHASES[phase];
  $("live-facts").textContent = k ? `step ${plain(step)} · ${elapsed.toFixed(1)} s` : "";
  $("live-stop").hidden = ended;
  $("live-close").hidden = !ended;
  const shares = [[step, steps], [elapsed, seconds]].filter(([, most]) => most)
    .map(([done, most]) => done / most);
  const share = ended ? 1 : Math.min(1, Math.max(0, ...shares));
  $("live-bar").style.width = `${100 * share}%`;
  $("live-curve").innerHTML = drawCurve(curve, ended ? 0 : share);
}

/**
 * The curve of PSNR against seconds.
 *
 * @param {number[][]} curve seconds and dB
 * @param {number} share of the fit that is done, or 0 if it is over: the curve then spans all
 */
export function drawCurve(curve, share) {
  if (!curve.length) return "";
  const values = curve.map(([, db]) => db);
  const [lowest, highest] = [Math.min(...values), Math.max(...values)];
  const step = LINES.find((each) => (highest - lowest) / each <= 3) ?? 100;
  const low = Math.floor((lowest - 0.01) / step) * step;
  const high = Math.max(Math.ceil((highest + 0.01) / step) * step, low + step);
  const last = curve.at(-1)[0];
  const most = Math.max(share ? last / share : last, 1e-3);
  const x = (seconds) => LEFT + (WIDE - LEFT - 4) * (seconds / most);
  const y = (db) => 4 + (HIGH - BELOW - 4) * (1 - (db - low) / (high - low));
  const parts = [];
  for (let db = low; db <= high; db += step) {
    parts.push(`<path class="line" d="M${LEFT} ${y(db)}H${WIDE - 4}"/>`,
      `<text x="${LEFT - 5}" y="${y(db) + 3.5}" text-anchor="end">${db}</text>`);
  }
  const points = curve.map(([seconds, db]) => `${x(seconds).toFixed(1)} ${y(db).toFixed(1)}`);
  parts.push(
    `<text x="${WIDE - 4}" y="${HIGH - 1}" text-anchor="end">${most.toFixed(most < 10 ? 1 : 0)} s</text>`,
    `<path class="curve" d="M${points.join("L")}"/>`,
    `<circle cx="${x(last)}" cy="${y(values.at(-1))}" r="3"/>`);
  return parts.join("");
}

function soon(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
