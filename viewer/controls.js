// What people can press, slide and drop on the page.

/** An element of the page, by its name. */
export const $ = (id) => document.getElementById(id);

/** Everything in the panel, and the buttons on the stage. */
export function followControls(page) {
  const { stage } = page;
  const percent = (id, name) => $(id).addEventListener("input", () => {
    $(`${id}-now`).textContent = `${$(id).value} %`;
    stage.set({ [name]: Number($(id).value) / 100 });
  });
  percent("strength", "strength");
  percent("marks", "marksStrength");
  percent("density", "density");
  for (const kind of ["ellipses", "centres"]) {
    $(kind).addEventListener("change", () => {
      stage.set({ [kind]: $(kind).checked });
      page.dim();
    });
  }
  $("gain").addEventListener("input", () => {
    $("gain-now").textContent = $("gain").value;
    stage.set({ gain: Number($("gain").value) });
  });
  $("first").addEventListener("input", () => page.showFirst());
  $("divide").addEventListener("change", () => page.divide());
  for (const input of document.querySelectorAll("input[name=kind]")) {
    input.addEventListener("change", () => {
      if (input.value !== "left") $("divide").checked = false;
      $("gain-row").hidden = input.value !== "difference";
      stage.set({ kind: input.value });
      page.divide();
    });
  }
  $("zoom-in").addEventListener("click", () => stage.zoomTo(stage.view.zoom * 1.5));
  $("zoom-out").addEventListener("click", () => stage.zoomTo(stage.view.zoom / 1.5));
  $("zoom-fit").addEventListener("click", () => stage.fit());
  $("zoom-one").addEventListener("click", () => stage.zoomTo(1));
  $("save").addEventListener("click", () => page.save());
  $("help").addEventListener("click", () => $("keys").showModal());
  $("toggle").addEventListener("click", () => {
    const wide = document.body.classList.toggle("wide");
    $("toggle").setAttribute("aria-expanded", String(!wide));
  });
  $("message").addEventListener("click", () => page.say(null));
  new ResizeObserver(() => stage.changed()).observe($("canvas"));
  if (window.innerWidth <= 720) $("toggle").click();
}

/** Move a slider. */
export function slide(id, value) {
  $(id).value = value;
  $(id).dispatchEvent(new Event("input"));
}

/** Files that are chosen or dropped. */
export function followFiles(page) {
  let side = 0;
  const choose = (to) => () => {
    side = to;
    $("files").click();
  };
  $("open").addEventListener("click", choose(0));
  $("open-first").addEventListener("click", choose(0));
  $("compare").addEventListener("click", choose(1));
  $("files").addEventListener("change", () => {
    const files = [...$("files").files];
    $("files").value = "";
    page.open(files, side);
  });
  const over = (event) => {
    event.preventDefault();
    $("stage").classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) window.addEventListener(kind, over);
  window.addEventListener("drop", (event) => page.open([...event.dataTransfer.files], 0));
}

/** Light and dark, as the system has it. */
export function followTheme(stage) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi)
      .map((part) => parseInt(part, 16) / 255);
    stage.set({
      ground: rgb("--ground"), checks: [...rgb("--check-a"), ...rgb("--check-b")],
    });
  };
  dark.addEventListener("change", apply);
  apply();
}
