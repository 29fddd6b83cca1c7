"use strict";
// The data are tracklets, the persons that were found (a number for each tracklet) and the doubtful pairs. A decision
// changes the persons; the whole list of persons is drawn again after each.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { tracklets, pairs } = data;
  const rowOf = new Map(tracklets.map((tracklet, row) => [tracklet.id, row]));
  const earlier = [];
  const selected = new Set();
  let state = { persons: data.persons.slice(), accepted: [], decided: {} };
  let saved = true;

  const find = (id) => document.getElementById(id);

  function make(tag, text, settings = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(settings)) {
      if (name === "click") element.addEventListener("click", value);
      else element.setAttribute(name, value);
    }
    return element;
  }

  const rowsOf = (person) => state.persons.flatMap((each, row) => (each === person ? [row] : []));
  // The rows of each person, in the order of the persons.
  function groups() {
    const found = new Map(people().map((person) => [person, []]));
    state.persons.forEach((person, row) => found.get(person).push(row));
    return found;
  }

  const people = () => [...new Set(state.persons)].sort((one, other) => one - other);
  const names = (rows) => rows.map((row) => tracklets[row].id).join(", ");

  function overlap(one, other) {
    const known = [one.first, one.last, other.first, other.last].every((number) => number !== null);
    return known && one.place === other.place && one.first <= other.last && other.first <= one.last;
  }

  // The first two of these tracklets that cannot be one person.
  function conflict(rows) {
    for (const one of rows) {
      for (const other of rows) {
        if (one < other && overlap(tracklets[one], tracklets[other])) return [one, other];
      }
    }
    return null;
  }

  function tell(text, wrong = false) {
    const notice = find("notice");
    notice.textContent = text;
    notice.classList.toggle("wrong", wrong);
  }

  function change(text, edit) {
    const before = JSON.stringify(state);
    edit();
    if (JSON.stringify(state) === before) return;
    earlier.push(before);
    saved = false;
    selected.clear();
    tell(text);
    draw();
  }

  const newPerson = () => Math.max(...state.persons, ...data.persons) + 1;

  function accept(numbers, accepted) {
    const rest = state.accepted.filter((person) => !numbers.includes(person));
    state.accepted = accepted ? [...rest, ...numbers].sort((one, other) => one - other) : rest;
  }

  // Merge persons if no two of their tracklets overlap; return whether they were merged.
  function mergeAll(numbers) {
    const rows = numbers.flatMap(rowsOf);
    const apart = conflict(rows);
    if (apart) {
      tell(`${names(apart)} overlap in time in one camera, so they are two persons.`, true);
      return false;
    }
    if (numbers.length > 1) accept(numbers, false);
    for (const row of rows) state.persons[row] = Math.min(...numbers);
    return true;
  }

  function split(rows) {
    const person = newPerson();
    accept([...new Set(rows.map((row) => state.persons[row]))], false);
    for (const row of rows) state.persons[row] = person;
    return person;
  }

  function decide(number, same) {
    const pair = pairs[number];
    const text = same ? "One person: " : "Two persons: ";
    change(text + names(pair.one) + " and " + names(pair.other), () => {
      if (same) {
        if (!mergeAll([...new Set(pair.rows.flat().map((row) => state.persons[row]))])) return;
      } else {
        const held = new Set(pair.rows[0].map((row) => state.persons[row]));
        const moved = pair.rows[1].filter((row) => held.has(state.persons[row]));
        if (moved.length) split(moved);
      }
      state.decided[number] = same ? "same" : "two";
    });
  }

  function frames(tracklet) {
    if (tracklet.first === null || tracklet.last === null) return "";
    return `frames ${tracklet.first} to ${tracklet.last}`;
  }

  function fill(element, row) {
    const tracklet = tracklets[row];
    if (tracklet.picture) {
      const size = { src: tracklet.picture, alt: "", width: tracklet.width, height: tracklet.height };
      element.append(make("img", undefined, { ...size, loading: "lazy", decoding: "async" }));
    }
    element.append(make("span", tracklet.id));
    element.append(make("span", [tracklet.camera, frames(tracklet)].filter(Boolean).join(", "), { class: "quiet" }));
    return element;
  }

  function tiles(rows, makeTile) {
    const list = make("ul", undefined, { class: "tiles" });
    for (const row of rows) {
      const item = make("li");
      item.append(makeTile(row));
      list.append(item);
    }
    return list;
  }

  const plainTile = (row) => fill(make("div", undefined, { class: "tile" }), row);

  function side(shown, rows) {
    const element = make("div");
    element.append(tiles(shown, plainTile));
    const more = rows.length - shown.length;
    if (more) element.append(make("p", `and ${more} more`, { class: "quiet" }));
    return element;
  }

  function drawPairs() {
    const list = find("pairs");
    pairs.forEach((pair, number) => {
      const card = make("article", undefined, { class: "card", id: `pair-${number}` });
      const sure = pair.probability === null ? "" : `, probability of one person ${pair.probability.toFixed(2)}`;
      const linked = pair.joined ? "Linked" : "Not linked";
      card.append(make("p", `${linked}: distance ${pair.distance.toPrecision(3)}, ` +
        `threshold ${data.threshold.toPrecision(3)}${sure}`));
      const sides = make("div", undefined, { class: "sides" });
      sides.append(side(pair.one, pair.rows[0]), side(pair.other, pair.rows[1]));
      const actions = make("div", undefined, { class: "actions" });
      for (const [same, text] of [[true, "Same person"], [false, "Two persons"]]) {
        actions.append(make("button", text, {
          type: "button", "data-key": `pair-${number}-${same}`, click: () => decide(number, same),
        }));
      }
      card.append(sides, actions);
      list.append(card);
    });
  }

  const chosenOf = (person) => rowsOf(person).filter((row) => selected.has(row));
  const chosenPersons = () => [...new Set([...selected].map((row) => state.persons[row]))];

  // Show which buttons are pressed and which can be.
  function mark() {
    const keyed = Array.from(document.querySelectorAll("[data-key]"), (each) => [each.getAttribute("data-key"), each]);
    const buttons = new Map(keyed);
    const button = (key) => buttons.get(key);
    pairs.forEach((_, number) => {
      for (const [same, word] of [[true, "same"], [false, "two"]]) {
        button(`pair-${number}-${same}`).setAttribute("aria-pressed", String(state.decided[number] === word));
      }
    });
    tracklets.forEach((_, row) => button(`tile-${row}`).setAttribute("aria-pressed", String(selected.has(row))));
    const held = new Set(chosenPersons());
    for (const [person, rows] of groups()) {
      const count = held.has(person) ? chosenOf(person).length : 0;
      button(`split-${person}`).disabled = count === 0 || count === rows.length;
    }
    find("merge").disabled = held.size < 2;
  }

  function personCard([person, rows]) {
    const accepted = state.accepted.includes(person);
    const label = { class: accepted ? "card accepted" : "card", "aria-label": `Person ${person}` };
    const card = make("article", undefined, label);
    const cameras = [...new Set(rows.map((row) => tracklets[row].camera))];
    card.append(make("h3", `Person ${person}`));
    card.append(make("p", `${rows.length} tracklet${rows.length > 1 ? "s" : ""}, ${cameras.join(", ")}`,
      { class: "quiet" }));
    card.append(tiles(rows, (row) => fill(make("button", undefined, {
      type: "button", class: "tile", "data-key": `tile-${row}`,
      click: () => {
        if (!selected.delete(row)) selected.add(row);
        mark();
      },
    }), row)));
    const actions = make("div", undefined, { class: "actions" });
    actions.append(make("button", accepted ? "Accepted" : "Accept", {
      type: "button", "aria-pressed": String(accepted), "data-key": `accept-${person}`,
      click: () => change(`Person ${person} ${accepted ? "is no longer accepted" : "accepted"}`,
        () => accept([person], !accepted)),
    }));
    actions.append(make("button", "Split off the selected", {
      type: "button", "data-key": `split-${person}`,
      click: () => {
        const rows = chosenOf(person);
        change(`Split off ${names(rows)}`, () => split(rows));
      },
    }));
    card.append(actions);
    return card;
  }

  function draw() {
    const key = document.activeElement && document.activeElement.getAttribute("data-key");
    const all = [...groups()];
    const order = [...all].sort(([one, rows], [other, others]) =>
      (rows.length === 1) - (others.length === 1) || one - other);
    find("persons").replaceChildren(...order.map(personCard));
    mark();
    find("counts").textContent =
      `${all.length} persons, ${state.accepted.length} accepted, ${Object.keys(state.decided).length} of ` +
      `${pairs.length} pairs decided`;
    find("undo").disabled = earlier.length === 0;
    const focused = key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (focused) focused.focus({ preventScroll: true });
  }

  function decisions() {
    const persons = Array.from(groups(), ([person, rows]) => ({
      person, accepted: state.accepted.includes(person), tracklets: rows.map((row) => tracklets[row].id),
    }));
    return { format: data.format, run: data.run, persons };
  }

  function save() {
    const text = JSON.stringify(decisions(), null, 1) + "\n";
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const link = make("a", undefined, { href: address, download: "decisions.json" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    saved = true;
    tell("Saved as decisions.json in the folder of your downloads.");
  }

  async function load(file) {
    try {
      const read = JSON.parse(await file.text());
      if (read.run !== data.run) throw new Error("it is of other tracklets");
      const persons = state.persons.map(() => null);
      const accepted = [];
      for (const each of read.persons) {
        for (const id of each.tracklets) {
          if (!rowOf.has(id) || persons[rowOf.get(id)] !== null) throw new Error(`it has ${id} twice or wrongly`);
          persons[rowOf.get(id)] = each.person;
        }
        if (each.accepted) accepted.push(each.person);
      }
      if (persons.includes(null)) throw new Error("it lacks a tracklet");
      change("Decisions read.", () => { state = { persons, accepted, decided: {} }; });
      saved = true;
    } catch (error) {
      tell(`This is no file of decisions on these persons: ${error.message}.`, true);
    }
  }

  find("merge").addEventListener("click", () => {
    const chosen = chosenPersons();
    change(`Merged the persons ${chosen.join(", ")}`, () => mergeAll(chosen));
  });
  find("undo").addEventListener("click", () => {
    state = JSON.parse(earlier.pop());
    selected.clear();
    saved = false;
    tell("Undone.");
    draw();
  });
  find("all").addEventListener("click", () => change("All persons accepted", () => accept(people(), true)));
  find("save").addEventListener("click", save);
  find("load").addEventListener("change", (event) => {
    if (event.target.files.length) load(event.target.files[0]);
    event.target.value = "";
  });
  window.addEventListener("beforeunload", (event) => {
    if (!saved) event.preventDefault();
  });
  drawPairs();
  draw();
})();
