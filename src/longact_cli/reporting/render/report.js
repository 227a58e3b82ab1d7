"use strict";
// Sorting and filtering. Everything can be read without this script.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) sortBody(body, place, down ? -1 : 1);
    });
  });
}

function sortBody(body, place, sign) {
  const rows = [...body.rows].filter((row) => !row.classList.contains("part"));
  const value = (row) => row.cells[place].dataset.v;
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const [p, q] = [Number(x), Number(y)];
    const numbers = x !== "" && y !== "" && !Number.isNaN(p) && !Number.isNaN(q);
    return sign * (numbers ? p - q : x.localeCompare(y));
  });
  body.append(...rows);
}

const search = document.getElementById("search");
const split = document.getElementById("split");
if (search && split) {
  document.getElementById("tools").hidden = false;
  const questions = [...document.querySelectorAll("details.question")];
  const show = () => {
    const words = search.value.toLowerCase();
    for (const one of questions) {
      const found = one.textContent.toLowerCase().includes(words);
      one.hidden = !found || (split.checked && !("split" in one.dataset));
    }
  };
  search.addEventListener("input", show);
  split.addEventListener("change", show);
}
