"use strict";
const list = document.getElementById("images");
const rank = {error: 0, generated: 1, unsure: 2, photo: 3};
const orders = {
  position: (a, b) => a.dataset.position - b.dataset.position,
  score: (a, b) => (b.dataset.score === "" ? -Infinity : +b.dataset.score) - (a.dataset.score === "" ? -Infinity : +a.dataset.score) || 0,
  verdict: (a, b) => rank[a.dataset.verdict] - rank[b.dataset.verdict],
  path: (a, b) => a.dataset.path.localeCompare(b.dataset.path),
};
for (const button of document.querySelectorAll("button[data-key]")) {
  button.addEventListener("click", () => {
    const cards = [...list.children].sort((a, b) => orders[button.dataset.key](a, b) || orders.position(a, b));
    list.append(...cards);
    for (const other of document.querySelectorAll("button[data-key]")) other.setAttribute("aria-pressed", other === button);
  });
}
