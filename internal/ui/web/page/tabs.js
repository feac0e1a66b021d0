// The four pages are tabs of one document; the address remembers which.
import { $ } from "./dom.js";

const tabs = () => [...document.querySelectorAll("[role=tab]")];

// selected is the id of the page that is shown, undefined under the welcome.
export const selected = () => tabs().find((tab) => tab.ariaSelected === "true")?.getAttribute("aria-controls");

function select(page) {
  for (const tab of tabs()) {
    const mine = tab.getAttribute("aria-controls") === page;
    tab.setAttribute("aria-selected", mine);
    tab.tabIndex = mine ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !mine;
  }
  history.replaceState(null, "", `#${page}`);
  document.dispatchEvent(new CustomEvent("page", { detail: page }));
}

// onPage has f called with the id of each page that comes to be shown.
export const onPage = (f) => document.addEventListener("page", (event) => f(event.detail));

function move(event) {
  const all = tabs(), at = all.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const tab = all[(to + all.length) % all.length];
  select(tab.getAttribute("aria-controls"));
  tab.focus();
}

export function start() {
  for (const tab of tabs()) {
    tab.addEventListener("click", () => select(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", move);
  }
  const wanted = location.hash.slice(1);
  select(tabs().some((tab) => tab.getAttribute("aria-controls") === wanted) ? wanted : "status");
}
