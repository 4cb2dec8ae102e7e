(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const config = read("config");
  // Puts into a specification the widths and numbers of columns that fit: see charts.py.
  const fit = (node, room, scale) => {
    if (Array.isArray(node)) return node.map((item) => fit(item, room, scale));
    if (node === null || typeof node !== "object") return node;
    const cells = room < 560 ? 1 : room < 800 ? 2 : 3;
    const fitted = {};
    for (const [key, value] of Object.entries(node)) {
      if (key === "datasets" || key === "data") fitted[key] = value;
      else if (key === "width" && value === 900) fitted[key] = room - 62;
      else if (key === "width" && value === 290) fitted[key] = Math.floor(room / cells) - 66;
      else if (key === "columns" && value === 3) fitted[key] = cells;
      else if (key === "columns" && value === 8) fitted[key] = Math.max(2, Math.floor(room / 95));
      else if (key === "type" && scale && (value === "log" || value === "linear")) fitted[key] = scale;
      else fitted[key] = fit(value, room, scale);
    }
    return fitted;
  };
  const room = () => document.querySelector("section").clientWidth - (innerWidth < 560 ? 26 : 40);
  const draw = (figure) => {
    const scale = figure.querySelector("input")?.checked ?? null;
    const spec = fit(read(figure.dataset.spec), room(), scale === null ? "" : scale ? "log" : "linear");
    vegaEmbed(figure.querySelector(".chart"), spec, {
      mode: "vega-lite", renderer: "svg", ast: true, config, tooltip: { theme: "page" },
      actions: { export: { png: true, svg: true }, source: false, compiled: false, editor: false },
      downloadFileName: figure.dataset.file, scaleFactor: { png: 3 },
    });
  };
  const figures = [...document.querySelectorAll("figure[data-spec]")];
  let width = 0;
  const drawAll = () => {
    if (room() === width) return;
    width = room();
    figures.forEach(draw);
  };
  figures.forEach((figure) => figure.querySelector("input")?.addEventListener("change", () => draw(figure)));
  addEventListener("resize", drawAll);
  drawAll();
})();
