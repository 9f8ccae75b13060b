"use strict";
(() => {
  const EVERY_MS = 5000;
  const el = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  let token = sessionStorage.getItem("des-token") || "";
  let chosen = null;

  // Every text goes in as text: what the server tells is never markup.
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const draw = (tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const scaled = (value, base, units) => {
    let at = 0;
    while (value >= base * 0.9995 && at < units.length - 1) { value /= base; at += 1; }
    const text = at === 0 && Number.isInteger(value) ? String(value) : value.toPrecision(value < 10 ? 2 : 3);
    return String(Number(text)) + units[at];
  };
  const count = (value) => scaled(value, 1000, ["", " k", " M", " G", " T"]);
  const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);
  const span = (seconds) => {
    if (seconds === null || seconds === undefined) return "–";
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
    }
    return `${Math.round(seconds)} s`;
  };
  // What a port that stands for several workers tells has the number of the one it is from.
  const by = (one) => (one.worker === undefined ? "" : ` (worker ${one.worker})`);
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  const ROUND = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];
  const ceiling = (value, base) => {
    if (value <= 0) return 1;
    const unit = base === 1024 ? 1024 ** Math.max(0, Math.floor(Math.log(value) / Math.log(1024))) : 1;
    const scale = 10 ** Math.floor(Math.log10(value / unit));
    return unit * scale * ROUND.find((step) => step * scale * unit >= value * 0.9999);
  };

  const W = 540, H = 170, LEFT = 58, RIGHT = 8, TOP = 8, BOTTOM = 22;
  const frame = (top, show) => {
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    for (const part of [0, 0.5, 1]) {
      const y = TOP + (H - TOP - BOTTOM) * (1 - part);
      svg.append(draw("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }));
      svg.append(draw("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, show(top * part)));
    }
    return svg;
  };
  const lines = (place, at, series, show, base) => {
    if (at.length < 2) { place.replaceChildren(make("p", { class: "empty" }, "The first minute is being measured.")); return; }
    const top = ceiling(Math.max(...series.flatMap((one) => one.values)), base);
    const svg = frame(top, show);
    const first = at[0], last = at[at.length - 1];
    const x = (ms) => LEFT + ((W - LEFT - RIGHT) * (ms - first)) / (last - first);
    const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - value / top);
    series.forEach((one, number) => {
      const points = one.values.map((value, n) => `${x(at[n]).toFixed(1)},${y(value).toFixed(1)}`);
      svg.append(draw("path", { class: `f${number + 1}`, d: `M${x(first)},${y(0)}L${points.join("L")}L${x(last)},${y(0)}Z` }));
      svg.append(draw("path", { class: `l${number + 1}`, d: `M${points.join("L")}` }));
    });
    svg.append(draw("text", { x: LEFT, y: H - 4 }, clock(first)));
    svg.append(draw("text", { x: W - RIGHT, y: H - 4, "text-anchor": "end" }, clock(last)));
    const key = make("div", { class: "key" });
    series.forEach((one, number) => {
      const now = one.values[one.values.length - 1];
      key.append(make("span", {}, make("i", { class: `k${number + 1}` }), `${one.name} ${show(now)}`));
    });
    place.replaceChildren(svg, key);
  };
  const bars = (place, days) => {
    if (!days.length) { place.replaceChildren(make("p", { class: "empty" }, "No container is stored yet.")); return; }
    const shown = days.slice(-14);
    const top = Math.max(2, ceiling(Math.max(...shown.map((day) => day.containers)), 1000));
    const svg = frame(top, count);
    const step = (W - LEFT - RIGHT) / Math.max(7, shown.length);
    shown.forEach((day, number) => {
      const height = ((H - TOP - BOTTOM) * day.containers) / top;
      const x = LEFT + step * number + step * 0.15;
      const bar = draw("rect", { class: "bar", x, y: H - BOTTOM - height, width: step * 0.7, height, rx: 2 });
      bar.append(draw("title", {}, `${day.day}: ${day.containers} containers, ${count(day.files)} files, ${bytes(day.data_bytes)}`));
      svg.append(bar);
      if (shown.length < 9 || number % 2 === 0) {
        const label = `${day.day.slice(4, 6)}-${day.day.slice(6)}`;
        svg.append(draw("text", { x: x + step * 0.35, y: H - 4, "text-anchor": "middle" }, label));
      }
    });
    place.replaceChildren(svg);
  };

  // The age of the oldest open file, in steps.
  const AGES = [[0, "a1", "< 1 min"], [60, "a2", "< 10 min"], [600, "a3", "< 1 h"], [3600, "a4", "< 6 h"], [21600, "a5", "older"]];
  const shade = (cell) => {
    if (cell.state !== "active") return cell.state;
    if (cell.age_s === null) return "";
    return AGES.filter(([from]) => cell.age_s >= from).pop()[1];
  };
  const describe = (cell) => {
    const name = cell.span > 1 ? `Shards ${cell.shard} to ${cell.shard + cell.span - 1}` : `Shard ${cell.shard}`;
    const open = cell.open_files ? `${count(cell.open_files)} open files (${bytes(cell.open_bytes)}), the oldest ${span(cell.age_s)} old` : "nothing open";
    const rest = `${count(cell.stored_files)} files in ${count(cell.containers)} containers`;
    return [`${name}: ${cell.state}`, open, rest, cell.owner && `owner ${cell.owner.slice(0, 8)}`, cell.error].filter(Boolean).join(" · ");
  };
  const showGrid = (cells, totals) => {
    const place = el("grid");
    if (place.childElementCount !== cells.length) {
      place.replaceChildren(...cells.map((_, number) => {
        const button = make("button", { type: "button" });
        button.addEventListener("click", () => { chosen = number; mark(cells[number]); });
        return button;
      }));
    }
    cells.forEach((cell, number) => {
      const button = place.children[number];
      button.className = ["cell", shade(cell), cell.error ? "err" : "", number === chosen ? "on" : ""].join(" ");
      button.title = describe(cell);
      button.setAttribute("aria-label", describe(cell));
    });
    const mark = (cell) => {
      [...place.children].forEach((one, number) => one.classList.toggle("on", number === chosen));
      el("told").textContent = describe(cell);
    };
    if (chosen !== null && cells[chosen]) mark(cells[chosen]);
    const run = cells.length && cells[0].span > 1 ? `, ${cells[0].span} in a cell` : "";
    el("gridnote").textContent = totals.shards === undefined ? "" : `${totals.shards}${run}; coloured by the age of the oldest open file`;
    el("legend").replaceChildren(...[["", "nothing open"], ...AGES.map(([, name, text]) => [name, text]), ["sealing", "sealing"], ["recovering", "recovering"], ["unowned", "unowned or read only"]].map(
      ([name, text]) => make("span", {}, make("i", { class: `cell ${name}` }), text)));
  };

  const table = (place, heads, rows, empty) => {
    if (!rows.length) { place.replaceChildren(make("p", { class: "empty" }, empty)); return; }
    const head = make("tr", {}, ...heads.map(([text, kind]) => make("th", { class: kind || "" }, text)));
    const body = rows.map((row) => make("tr", {}, ...row.map((cell, n) => make("td", { class: heads[n][1] || "" }, cell))));
    place.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  };

  const show = (told) => {
    const { health, totals, history } = told;
    const bad = !health.readable || !health.writable;
    const less = health.checks.filter((check) => check.state === "degraded" || check.state === "failed");
    const light = el("light");
    light.className = `light ${bad ? "bad" : less.length ? "warn" : "good"}`;
    light.textContent = !health.readable ? "not serving" : !health.writable ? "read only" : less.length ? `serving, ${less.map((check) => check.check.replace("_", " ")).join(", ")} not well` : "serving";
    const who = told.workers === undefined ? `node ${told.node.slice(0, 8)}` : `${told.workers} workers`;
    el("where").textContent = `${location.host} · ${who} · up ${span((told.now_ms - told.started_ms) / 1000)}`;
    const note = el("note");
    note.hidden = !(health.cause || told.stale);
    note.textContent = [health.cause, told.stale && `The catalog does not answer; what it told last is shown. ${told.stale}`].filter(Boolean).join(" · ");
    const age = Math.max(0, ...told.grid.map((cell) => cell.age_s || 0));
    const last = (name) => (history[name].length ? history[name][history[name].length - 1] : 0);
    el("tiles").replaceChildren(...[
      [count(totals.stored_files || 0), "files in containers"], [bytes(totals.stored_bytes || 0), "stored"],
      [count(totals.containers || 0), "containers"], [count(totals.open_files || 0), "open files"],
      [totals.open_files ? span(age) : "–", "oldest open file"], [`${count(last("put_files"))} / ${count(last("get_files"))}`, "puts / gets per s"],
    ].map(([value, text]) => make("div", { class: "tile" }, make("b", {}, value), make("span", {}, text))));
    showGrid(told.grid, totals);
    const at = history.at_ms;
    lines(el("files"), at, [{ name: "put", values: history.put_files }, { name: "get", values: history.get_files }], count, 1000);
    lines(el("bytes"), at, [{ name: "put", values: history.put_bytes }, { name: "get", values: history.get_bytes }], bytes, 1024);
    lines(el("backlog"), at, [{ name: "backlog", values: history.backlog_bytes }], bytes, 1024);
    bars(el("days"), told.days);
    el("checks").replaceChildren(...health.checks.map((check) => make("div", { class: "check" },
      make("i", { class: check.state }), make("b", {}, check.check.replace("_", " ") + by(check)),
      make("div", {}, check.found, ...(check.advice ? [make("p", {}, check.advice)] : [])),
      make("span", { class: "dim" }, check.age_s === null ? "" : `${check.latency_ms.toFixed(check.latency_ms < 10 ? 1 : 0)} ms`))));
    table(el("nodes"), [["node"], ["address"], ["state"], ["shards", "n"], ["version"]],
      told.nodes.map((node) => [make("code", {}, node.node.slice(0, 8) + (by(node) || (node.this ? " (this)" : ""))), node.address || location.host, node.state, String(node.shards), node.version]), "No node.");
    table(el("troubles"), [["at"], ["what"], ["facts"], ["times", "n"]],
      told.troubles.map((one) => [clock(one.at_ms), make("span", { class: one.level }, one.event), one.facts + by(one), String(one.times)]), "Nothing since the start of this process.");
    el("foot").replaceChildren(...[`DES ${told.version}`, `store ${told.store}`, `looked at ${new Date(told.now_ms).toLocaleTimeString()}`].map((text) => make("span", {}, text)),
      make("a", { href: "status.json" }, "JSON"), make("a", { href: "metrics" }, "metrics"), make("a", { href: "docs" }, "HTTP"));
    document.body.dataset.shown = String(Number(document.body.dataset.shown || 0) + 1);
  };

  const look = async () => {
    try {
      const answer = await fetch("status.json", { headers: token ? { authorization: `Bearer ${token}` } : {}, signal: AbortSignal.timeout(20000) });
      el("door").hidden = !(answer.status === 401 || answer.status === 403);
      el("main").hidden = !answer.ok;
      if (!answer.ok) throw new Error(answer.status === 401 ? "who are you?" : answer.status === 403 ? "not granted" : `answers ${answer.status}`);
      show(await answer.json());
    } catch (error) {
      el("light").className = "light bad";
      el("light").textContent = error instanceof TypeError || error.name === "TimeoutError" ? "does not answer" : error.message;
    }
  };
  el("door").addEventListener("submit", (event) => {
    event.preventDefault();
    token = el("token").value.trim();
    sessionStorage.setItem("des-token", token);
    look();
  });
  look();
  setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
})();
