"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("viewer-data").textContent);
  const CANVAS_PIXELS = 900;      // of the longest side of the anatomy
  const BLINK_MS = 600;
  const MAP_OPACITY = 0.65;
  const GRID_LINES = 24, SQUARES = 9;
  const FOLD = [255, 42, 212], GOLD = "#ffd24a", EDGE = [255, 176, 32];
  const state = {at: data.start.slice(), mode: "checkerboard", time: "warped", map: "none", opacity: 0.5, grid: false,
    cross: true, blinking: false, phase: false};
  const longest = Math.max(...data.extent);
  const colours = {};
  for (const name of Object.keys(data.colours)) {
    colours[name] = Uint8Array.from(atob(data.colours[name]), (c) => c.charCodeAt(0));
  }

  // A volume is kept as bytes, `channels` a voxel; its slices come side by side in one picture.
  async function read(volume, channels) {
    const picture = new Image();
    picture.src = volume.picture;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.width;
    canvas.height = picture.height;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const [depth, height, width] = volume.shape;
    const values = new Uint8Array(depth * height * width * channels);
    let to = 0;
    for (let z = 0; z < depth; z++) {
      const left = (z % volume.columns) * width, top = Math.floor(z / volume.columns) * height;
      for (let y = 0; y < height; y++) {
        let from = 4 * ((top + y) * canvas.width + left);
        for (let x = 0; x < width; x++, from += 4) {
          for (let c = 0; c < channels; c++) values[to++] = pixels[from + c];
        }
      }
    }
    return {shape: volume.shape, spacing: volume.spacing, channels, values};
  }

  // The plane of a volume through `mm` along the axis it is normal to: rows x columns x channels.
  function cut(volume, plane, mm) {
    const n = volume.shape, strides = [n[1] * n[2], n[2], 1].map((s) => s * volume.channels);
    const index = Math.min(n[plane.normal] - 1, Math.max(0, Math.floor(mm / volume.spacing[plane.normal])));
    const rows = n[plane.down], columns = n[plane.right], c = volume.channels;
    const out = new Uint8Array(rows * columns * c);
    for (let i = 0, to = 0; i < rows; i++) {
      let from = index * strides[plane.normal] + i * strides[plane.down];
      for (let j = 0; j < columns; j++, from += strides[plane.right]) {
        for (let k = 0; k < c; k++) out[to++] = volume.values[from + k];
      }
    }
    return {rows, columns, values: out, height: rows * volume.spacing[plane.down],
      width: columns * volume.spacing[plane.right]};
  }

  function picture(section, paint) {
    const canvas = document.createElement("canvas");
    canvas.width = section.columns;
    canvas.height = section.rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(section.columns, section.rows);
    for (let i = 0; i < section.rows * section.columns; i++) paint(image.data, 4 * i, i);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  const grey = (values) => (out, to, i) => {
    out[to] = out[to + 1] = out[to + 2] = values[i];
    out[to + 3] = 255;
  };

  function checkerboard(one, two) {
    const square = longest / SQUARES, dy = one.height / one.rows, dx = one.width / one.columns;
    return (out, to, i) => {
      const row = Math.floor(((Math.floor(i / one.columns) + 0.5) * dy) / square);
      const column = Math.floor(((i % one.columns + 0.5) * dx) / square);
      grey((row + column) % 2 ? two.values : one.values)(out, to, i);
    };
  }

  // The steepest places of the fixed image, over the moving one.
  function edges(one, two) {
    const {rows, columns, values} = one, steep = new Float32Array(rows * columns);
    for (let y = 1; y < rows - 1; y++) {
      for (let x = 1; x < columns - 1; x++) {
        const i = y * columns + x;
        const gx = 2 * (values[i + 1] - values[i - 1]) + values[i + 1 - columns] - values[i - 1 - columns]
          + values[i + 1 + columns] - values[i - 1 + columns];
        const gy = 2 * (values[i + columns] - values[i - columns]) + values[i + columns - 1] - values[i - columns - 1]
          + values[i + columns + 1] - values[i - columns + 1];
        steep[i] = Math.hypot(gx, gy);
      }
    }
    const sorted = Float32Array.from(steep).sort();
    const limit = Math.max(sorted[Math.floor(0.88 * sorted.length)], 24);
    return (out, to, i) => {
      grey(two.values)(out, to, i);
      const share = Math.min(1, Math.max(0, (steep[i] - limit) / limit + 0.35));
      if (steep[i] > limit) for (let c = 0; c < 3; c++) out[to + c] += share * (EDGE[c] - out[to + c]);
    };
  }

  function shown() {
    if (state.blinking) return state.phase ? "other" : "fixed";
    return state.mode;
  }

  function draw(view) {
    const {plane, canvas, context} = view;
    const mm = state.at[plane.normal], mode = shown();
    const size = [data.extent[plane.down], data.extent[plane.right]];
    const scale = canvas.width / size[1];
    const place = (image, section) => context.drawImage(image, 0, 0, section.width * scale, section.height * scale);
    context.globalAlpha = 1;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    const fixed = cut(volumes.fixed, plane, mm), other = cut(volumes[state.time], plane, mm);
    if (mode === "checkerboard") place(picture(fixed, checkerboard(fixed, other)), fixed);
    else if (mode === "edges") place(picture(fixed, edges(fixed, other)), fixed);
    else {
      const share = {fixed: 0, other: 1, blend: state.opacity}[mode];
      if (share < 1) place(picture(fixed, grey(fixed.values)), fixed);
      context.globalAlpha = share;
      if (share > 0) place(picture(other, grey(other.values)), other);
    }
    if (state.map === "displacement") {
      const section = cut(volumes.displacement, plane, mm), {largest, longest} = data.displacement;
      context.globalAlpha = MAP_OPACITY;
      place(picture(section, (out, to, i) => {
        let sum = 0;
        for (let c = 0; c < 3; c++) sum += (section.values[3 * i + c] - data.middle) ** 2;
        const length = Math.sqrt(sum) * largest / data.reach;
        const entry = 3 * Math.min(255, Math.round(255 * length / longest));
        for (let c = 0; c < 3; c++) out[to + c] = colours.displacement[entry + c];
        out[to + 3] = 255;
      }), section);
    }
    if (state.map === "jacobian") {
      const section = cut(volumes.jacobian, plane, mm);
      context.globalAlpha = 1;
      place(picture(section, (out, to, i) => {
        const code = section.values[i], folds = code === 0;
        const strength = Math.min(1, Math.abs(code - data.middle) / data.reach);
        for (let c = 0; c < 3; c++) out[to + c] = folds ? FOLD[c] : colours.jacobian[3 * code + c];
        out[to + 3] = folds ? 255 : 255 * Math.min(0.85, 1.6 * strength);
      }), section);
    }
    context.globalAlpha = 1;
    if (state.grid && data.displacement) drawGrid(view, scale, mm);
    if (state.cross) drawCross(view, scale);
    drawLetters(view, size, scale);
    describe(view, mode, mm);
  }

  // Lines of voxels, moved by the displacement.
  function drawGrid({plane, context}, scale, mm) {
    const section = cut(volumes.displacement, plane, mm), {rows, columns, values} = section;
    const dy = section.height / rows, dx = section.width / columns, unit = data.displacement.largest / data.reach;
    const point = (i, j) => {
      const at = 3 * (i * columns + j);
      return [((j + 0.5) * dx + (values[at + plane.right] - data.middle) * unit) * scale,
        ((i + 0.5) * dy + (values[at + plane.down] - data.middle) * unit) * scale];
    };
    const gap = (step) => Math.max(1, Math.round(longest / GRID_LINES / step));
    const lines = (outer, inner, step, at) => {
      for (let a = Math.floor(step / 2); a < outer; a += step) {
        context.beginPath();
        for (let b = 0; b < inner; b++) context.lineTo(...at(a, b));
        context.stroke();
      }
    };
    context.strokeStyle = "rgba(255, 255, 255, 0.75)";
    context.lineWidth = 1.4;
    lines(rows, columns, gap(dy), point);
    lines(columns, rows, gap(dx), (a, b) => point(b, a));
  }

  function drawCross({plane, canvas, context}, scale) {
    const x = state.at[plane.right] * scale, y = state.at[plane.down] * scale, free = 14;
    context.strokeStyle = "rgba(92, 196, 196, 0.8)";
    context.lineWidth = 1.2;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - free, y], [x + free, y, canvas.width, y], [x, 0, x, y - free],
      [x, y + free, x, canvas.height]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  }

  function drawLetters({plane, canvas, context}, size, scale) {
    const text = Math.round(CANVAS_PIXELS / 34), edge = 0.35 * text;
    context.font = `600 ${text}px system-ui, sans-serif`;
    context.fillStyle = GOLD;
    const {width, height} = canvas;
    const places = [[width / 2, edge, "center", "top"], [width / 2, height - edge, "center", "bottom"],
      [edge, height / 2, "left", "middle"], [width - edge, height / 2, "right", "middle"]];
    places.forEach(([x, y, horizontal, vertical], i) => {
      context.textAlign = horizontal;
      context.textBaseline = vertical;
      context.fillText(plane.letters[i], x, y);
    });
    const length = [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm <= size[1] / 3);
    if (plane.normal === 0 && length) {
      context.fillRect(edge, canvas.height - edge - 3, length * scale, 3);
      context.textAlign = "left";
      context.textBaseline = "bottom";
      context.font = `${Math.round(0.8 * text)}px system-ui, sans-serif`;
      context.fillText(`${length} mm`, edge, canvas.height - edge - 6);
    }
  }

  function describe(view, mode, mm) {
    const moving = state.time === "warped" ? "the warped moving image" : "the moving image before registration";
    const words = {fixed: "the fixed image", other: moving, edges: `edges of the fixed image over ${moving}`,
      blend: `the fixed image with ${moving} over it, ${Math.round(100 * state.opacity)} %`,
      checkerboard: `checkerboard of the fixed image and ${moving}`}[mode];
    const map = {none: "", displacement: ", displacement in colours", jacobian: ", volume change in colours"}[state.map];
    const number = Number(view.slider.value) + 1, count = Number(view.slider.max) + 1;
    view.canvas.setAttribute("aria-label", `${view.plane.name} plane, slice ${number} of ${count}: ${words}${map}`);
    view.output.textContent = `${number} / ${count}`;
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      views.forEach(draw);
    });
  }

  function moveTo(axis, mm) {
    state.at[axis] = Math.min(data.extent[axis] - 1e-6, Math.max(0, mm));
    for (const view of views) {
      view.slider.value = Math.floor(state.at[view.plane.normal] / volumes.fixed.spacing[view.plane.normal]);
    }
    redraw();
  }

  function choose(name, value) {
    const input = document.querySelector(`input[name="${name}"][value="${value}"]`);
    if (input.disabled) return;
    input.checked = true;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }

  function blink(on) {
    state.blinking = on;
    byId("blink").setAttribute("aria-pressed", String(on));
    clearInterval(blink.timer);
    if (on) {
      blink.timer = setInterval(() => {
        state.phase = !state.phase;
        redraw();
      }, BLINK_MS);
    }
    redraw();
  }

  function wire() {
    for (const view of views) {
      view.slider.max = volumes.fixed.shape[view.plane.normal] - 1;
      view.slider.addEventListener("input", () => {
        moveTo(view.plane.normal, (Number(view.slider.value) + 0.5) * volumes.fixed.spacing[view.plane.normal]);
      });
      const point = (event) => {
        const box = view.canvas.getBoundingClientRect();
        moveTo(view.plane.right, (event.clientX - box.left) / box.width * data.extent[view.plane.right]);
        moveTo(view.plane.down, (event.clientY - box.top) / box.height * data.extent[view.plane.down]);
      };
      view.canvas.addEventListener("pointerdown", (event) => {
        view.canvas.setPointerCapture(event.pointerId);
        point(event);
      });
      view.canvas.addEventListener("pointermove", (event) => {
        if (event.buttons) point(event);
      });
      view.canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        moveTo(view.plane.normal, state.at[view.plane.normal]
          + Math.sign(event.deltaY) * volumes.fixed.spacing[view.plane.normal]);
      }, {passive: false});
    }
    for (const name of ["mode", "time", "map"]) {
      for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
        input.addEventListener("change", () => {
          state[name] = input.value;
          if (name === "mode") blink(false);
          for (const map of ["displacement", "jacobian"]) byId(`legend-${map}`).hidden = state.map !== map;
          redraw();
        });
      }
    }
    byId("opacity").addEventListener("input", (event) => {
      state.opacity = Number(event.target.value) / 100;
      if (state.mode !== "blend" || state.blinking) choose("mode", "blend");
      redraw();
    });
    byId("blink").addEventListener("click", () => blink(!state.blinking));
    for (const name of ["grid", "cross"]) {
      byId(name).addEventListener("change", (event) => {
        state[name] = event.target.checked;
        redraw();
      });
    }
    const modes = ["fixed", "other", "blend", "checkerboard", "edges"];
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const key = event.key.toLowerCase();
      const toggle = (map) => choose("map", state.map === map ? "none" : map);
      if (modes[Number(key) - 1]) choose("mode", modes[Number(key) - 1]);
      else if (key === "x") choose("time", state.time === "warped" ? "before" : "warped");
      else if (key === "b") byId("blink").click();
      else if (key === "d") toggle("displacement");
      else if (key === "j") toggle("jacobian");
      else if (key === "g") byId("grid").click();
      else if (key === "c") byId("cross").click();
    });
  }

  function theme() {
    const root = document.documentElement;
    byId("theme").addEventListener("click", () => {
      const wanted = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      const dark = (root.dataset.theme || wanted) === "dark";
      root.dataset.theme = dark ? "light" : "dark";
    });
  }

  const volumes = {};
  const views = data.planes.map((plane) => {
    const canvas = byId(plane.name), scale = CANVAS_PIXELS / longest;
    canvas.width = Math.round(data.extent[plane.right] * scale);
    canvas.height = Math.round(data.extent[plane.down] * scale);
    return {plane, canvas, context: canvas.getContext("2d"), slider: byId(`slice-${plane.name}`),
      output: canvas.parentElement.querySelector("output")};
  });
  document.querySelector(".planes").style.setProperty("--widths",
    data.planes.map((plane) => `${data.extent[plane.right].toFixed(2)}fr`).join(" "));

  async function main() {
    theme();
    const names = Object.keys(data.images);
    const images = await Promise.all(names.map((name) => read(data.images[name], 1)));
    names.forEach((name, i) => { volumes[name] = images[i]; });
    volumes.jacobian = await read(data.jacobian, 1);
    if (data.displacement) {
      volumes.displacement = await read(data.displacement, 3);
      document.querySelector("[data-longest]").textContent = data.displacement.longest.toFixed(1);
    } else {
      for (const input of [byId("grid"), document.querySelector('input[value="displacement"]')]) input.disabled = true;
    }
    const times = 2 ** data.jacobian.largest;
    document.querySelector("[data-low]").textContent = (1 / times).toFixed(2);
    document.querySelector("[data-high]").textContent = times.toFixed(2);
    wire();
    moveTo(0, state.at[0]);
    document.documentElement.dataset.ready = "yes";
  }
  main();
})();
