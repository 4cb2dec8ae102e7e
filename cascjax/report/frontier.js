"use strict";
// Makes the frontier picture interactive: numbers of a point, strategies on and off, the cost axis.
// The numbers are in the element "points"; names from there are only ever set as text.
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const figure = document.getElementById("frontier-figure");
  const SVG = "http://www.w3.org/2000/svg";
  const NEAR = 30; // how close a pointer must come to a point, in CSS pixels

  const fill = (element, attributes, parts) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...parts);
    return element;
  };
  const make = (tag, attributes = {}, ...parts) =>
    fill(document.createElement(tag), attributes, parts);
  const draw = (tag, attributes = {}, ...parts) =>
    fill(document.createElementNS(SVG, tag), attributes, parts);

  const off = new Set(); // numbers of the series switched off
  let log = data.pictures[0].log;
  let pinned = null; // the point that has the focus

  // ---- each picture gets its points

  const holders = figure.querySelectorAll(":scope > .wide, :scope > .narrow");
  const pictures = data.pictures.map((picture, number) => {
    const svg = holders[number].querySelector("svg");
    const title = svg.querySelector(":scope > title");
    svg.setAttribute("role", "group");
    svg.removeAttribute("aria-labelledby");
    svg.setAttribute("aria-label", title.textContent);
    // The browser's own tooltips would cover ours.
    svg.querySelectorAll("title").forEach((element) => element.remove());
    return { ...picture, holder: holders[number], svg, rings: [], places: picture.points };
  });
  const current = () => pictures.find((p) => p.holder.getClientRects().length) ?? pictures[0];

  const title = (series, i) => data.series[series].titles?.[i] ?? data.series[series].name;
  const describe = (series, i) => {
    const [numbers, models, rest] = data.series[series].points[i];
    const shares = data.series[series].shares;
    const parts = numbers.map((text, row) => `${data.series[series].rows[row]} ${text}`);
    for (const [k, , ...texts] of models) {
      parts.push(`${data.models[k][0]} ${texts.map((t, j) => `${shares[j]} ${t}`).join(" ")}`);
    }
    if (rest) parts.push(`and ${rest} more ${rest === 1 ? "model" : "models"}`);
    return `${title(series, i)}: ${parts.join(", ")}`;
  };

  for (const picture of pictures) {
    const [, , width, height] = picture.svg.getAttribute("viewBox").split(" ").map(Number);
    const [top, bottom] = picture.panels;
    picture.line = draw("line", { class: "cursor", y1: top, y2: bottom });
    picture.rings = [0, 1].map(() => draw("circle", { class: "ring", r: 6.5 }));
    const layer = draw("g", { class: "points" }, picture.line, ...picture.rings);
    picture.circles = picture.places.map((places, series) => {
      const name = data.series[series].name;
      const group = draw("g", {
        role: "group", "data-series": series,
        "aria-label": `${name}: ${places.length} ${places.length === 1 ? "point" : "points"}, arrow keys move between them`,
      });
      const circles = places.map(([x, y], i) =>
        draw("circle", {
          class: "point", cx: x, cy: y, r: 8, role: "img", tabindex: i ? -1 : 0,
          "aria-label": describe(series, i), "data-point": i,
        }));
      group.append(...circles);
      if (circles.length) layer.append(group);
      return circles;
    });
    picture.svg.append(layer);
    // The switches below are the legend now.
    picture.svg.setAttribute("viewBox", `0 ${picture.legend} ${width} ${height - picture.legend}`);
    picture.svg.setAttribute("height", height - picture.legend);
    listen(picture);
  }

  // ---- the numbers of a point

  const tip = make("div", { class: "tip", "aria-hidden": "true", hidden: "" });
  figure.append(tip);

  function show(next) {
    for (const p of pictures) p.svg.classList.toggle("lit", Boolean(next));
    tip.hidden = !next;
    if (!next) return;
    const { picture, series, i } = next;
    const { color, rows, shares, points } = data.series[series];
    const [numbers, models, rest] = points[i];
    const [x, y, gain] = picture.places[series][i];
    picture.line.setAttribute("x1", x);
    picture.line.setAttribute("x2", x);
    picture.rings.forEach((ring, j) => {
      const at = [y, gain][j];
      ring.style.display = at === null ? "none" : "";
      ring.style.stroke = color;
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", at ?? 0);
    });
    const swatch = (fill) => {
      const box = make("span", { class: "swatch" });
      box.style.background = fill;
      return box;
    };
    const list = make("dl");
    numbers.forEach((text, row) => list.append(make("dt", {}, rows[row]), make("dd", {}, text)));
    tip.replaceChildren(make("strong", {}, swatch(color), title(series, i)), list);
    if (models.length) {
      const grid = make("div", { class: shares.length > 1 ? "ran two" : "ran" });
      grid.append(...["model", "", ...shares].map((text) => make("span", { class: "soft" }, text)));
      for (const [k, percent, ...texts] of models) {
        const bar = make("i");
        bar.style.width = `${percent}%`;
        bar.style.background = data.models[k][1];
        const name = make("span", { class: "model" }, swatch(data.models[k][1]), data.models[k][0]);
        grid.append(name, make("span", { class: "share" }, bar));
        grid.append(...texts.map((text) => make("span", {}, text)));
      }
      tip.append(grid);
      if (rest) tip.append(make("span", { class: "soft" }, `and ${rest} more`));
    }
    place(picture.circles[series][i], picture.svg.getBoundingClientRect().top);
  }

  function place(circle, top) {
    const at = circle.getBoundingClientRect();
    const around = figure.getBoundingClientRect();
    const x = (at.left + at.right) / 2 - around.left;
    const y = (at.top + at.bottom) / 2 - around.top;
    // Next to the point, on the side with room, below the switches and within the window.
    const right = x + 18 + tip.offsetWidth <= around.width;
    const left = right ? x + 18 : Math.max(0, x - 18 - tip.offsetWidth);
    const lowest = Math.min(around.height, window.innerHeight - around.top) - tip.offsetHeight - 4;
    const level = Math.max(top - around.top, y - tip.offsetHeight / 2);
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(-around.top, Math.min(lowest, level))}px`;
    // On a phone it is docked, away from the point.
    tip.classList.toggle("high", (at.top + at.bottom) / 2 > window.innerHeight / 2);
  }

  // ---- pointer and keys

  function nearest(picture, event) {
    const box = picture.svg.getBoundingClientRect();
    const [x0, y0, width] = picture.svg.getAttribute("viewBox").split(" ").map(Number);
    const scale = box.width / width;
    let best = null, least = NEAR;
    picture.places.forEach((places, series) => {
      if (off.has(series)) return;
      places.forEach(([x, ...heights], i) => {
        for (const y of heights) {
          if (y === null) continue;
          const far = Math.hypot(
            box.left + (x - x0) * scale - event.clientX, box.top + (y - y0) * scale - event.clientY);
          if (far < least) {
            least = far;
            best = { picture, series, i };
          }
        }
      });
    });
    return best;
  }

  function focus({ picture, series, i }, options) {
    picture.circles[series].forEach((c, j) => c.setAttribute("tabindex", j === i ? 0 : -1));
    picture.circles[series][i].focus(options);
  }

  function step(key, { picture, series, i }) {
    const places = picture.places[series];
    const along = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: places.length - 1 }[key];
    if (along !== undefined) return places[along] ? { picture, series, i: along } : null;
    const turn = { ArrowUp: -1, ArrowDown: 1 }[key];
    if (!turn) return undefined;
    const visible = [...data.series.keys()].filter((s) => !off.has(s) && picture.places[s].length);
    const other = visible[(visible.indexOf(series) + turn + visible.length) % visible.length];
    const away = picture.places[other].map(([x]) => Math.abs(x - places[i][0]));
    return { picture, series: other, i: away.indexOf(Math.min(...away)) };
  }

  function listen(picture) {
    const { svg, holder } = picture;
    svg.addEventListener("pointermove", (event) => show(nearest(picture, event) ?? pinned));
    svg.addEventListener("pointerleave", () => show(pinned));
    // A click or tap keeps the numbers until the focus goes elsewhere.
    svg.addEventListener("click", (event) => {
      const hit = nearest(picture, event);
      if (hit) focus(hit, { preventScroll: true });
      else document.activeElement?.blur();
    });
    // An SVG element that listens to focus can itself be tabbed to, so what holds it listens.
    const point = ({ dataset, parentNode }) =>
      ({ picture, series: Number(parentNode.dataset.series), i: Number(dataset.point) });
    holder.addEventListener("focusin", ({ target }) => {
      pinned = point(target);
      show(pinned);
    });
    holder.addEventListener("focusout", () => {
      pinned = null;
      show(null);
    });
    holder.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const next = step(event.key, point(event.target));
      if (next === undefined) return;
      event.preventDefault();
      if (next) focus(next);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned = null;
    show(null);
  });
  window.addEventListener("resize", () => show(null));

  // ---- the switches

  function update() {
    for (const picture of pictures) {
      picture.holder.hidden = picture.log !== log;
      for (const element of picture.svg.querySelectorAll("[data-series]")) {
        element.style.display = off.has(Number(element.dataset.series)) ? "none" : "";
      }
    }
    show(null);
  }

  const box = (label, checked, change) => {
    const input = make("input", { type: "checkbox" });
    input.checked = checked;
    input.addEventListener("change", () => {
      change(input.checked);
      update();
    });
    return make("label", {}, input, ...label);
  };

  // A stretch of the legend: line style and marker tell curves apart without colour.
  const legend = current();
  const sample = (series) => {
    const entry = legend.svg.querySelector(`[data-legend="${series}"]`);
    if (!entry) return "";
    const { x, y, width, height } = entry.getBBox();
    const copy = entry.cloneNode(true);
    copy.querySelectorAll("defs").forEach((element) => element.remove());
    const view = `${x + width / 2 - 19} ${y + height / 2 - 7} 38 14`;
    return draw("svg", { viewBox: view, class: "sample", "aria-hidden": "true" }, copy);
  };
  const switches = make("fieldset", {}, make("legend", {}, "Shown in the picture"));
  data.series.forEach(({ name }, series) => {
    switches.append(box([sample(series), make("span", {}, name)], true, (on) => {
      if (on) off.delete(series);
      else off.add(series);
    }));
  });
  const controls = make("div", { class: "controls" }, switches);
  if (pictures.some((p) => p.log !== log)) {
    const scale = box([make("span", {}, "logarithmic cost axis")], log, (on) => (log = on));
    scale.className = "axis";
    controls.append(scale);
  }
  controls.append(make("p", { class: "soft hint" },
    "Hover over or tap a point to see its numbers",
    make("span", { class: "wide" },
      "; by keyboard, tab to a curve and use the arrow keys"), "."));
  figure.prepend(controls);
  figure.classList.add("live");
})();
