// The doctor: checks the whole way, and says first what is broken.
import { cause, post, postText } from "./api.js";
import { $, el, setText } from "./dom.js";
import { inform, onClick } from "./notice.js";
import { english, known, onLanguage, t } from "./texts.js";

const moods = { ok: "good", warn: "warn", fail: "bad", skip: "" };

let report; // the last one
let away; // of the copied or saved text, made for this report

const title = (f) => (english() ? f.title : known(`doctor.check.${f.id}`, f.title));
const state = (f) => t(`doctor.state.${f.state}`);

// head is the line that every finding has. Its state is told by shape, colour
// and word.
function head(f) {
  return [el("span", { className: "mark", "aria-hidden": "true" }), el("span", { className: "finding-title" },
    el("span", { className: f.state === "ok" ? "unseen" : "word", textContent: `${state(f)}: ` }), el("strong", { textContent: title(f) }), ...seen(f))];
}

const seen = (f) => (f.seen ? [el("span", { className: "quiet", lang: "en", textContent: f.seen })] : []);

// item is one finding. What is wrong opens and says what to do; the cause comes
// in the page's language, what the doctor says of this very case as it is.
async function item(f, open) {
  const li = el("li", { className: `finding ${moods[f.state]}` });
  if (f.state !== "fail" && f.state !== "warn") {
    li.append(...head(f));
    return li;
  }
  const words = f.cause && !english() ? await cause(f.cause) : {};
  const details = el("details", { open }, el("summary", {}, ...head(f)));
  if (words.text) details.append(el("p", { textContent: `${words.text}.` }), el("p", {}, el("strong", { textContent: words.hint })));
  if (f.action) details.append(el("p", { className: words.text ? "quiet" : "act", lang: "en", textContent: f.action }));
  li.append(details);
  return li;
}

async function draw() {
  const mine = report;
  if (!mine) return;
  const first = mine.findings.find((f) => f.id === mine.first);
  const rest = mine.findings.filter((f) => f !== first);
  const [broken, others] = [first ? await item(first, true) : undefined, await Promise.all(rest.map((f) => item(f, false)))];
  if (report !== mine) return;
  const worry = mine.findings.some((f) => f.state === "warn");
  $("doctor-summary").className = `state ${first ? "bad" : worry ? "warn" : "good"}`;
  setText($("doctor-verdict"), t(first ? "doctor.broken" : worry ? "doctor.warned" : "doctor.healthy"));
  $("doctor-first").replaceChildren(...(broken ? [broken] : []));
  $("doctor-list").replaceChildren(...others);
  $("doctor-list-title").hidden = !broken;
  $("doctor-result").hidden = false;
}

async function check() {
  $("doctor-result").hidden = true;
  $("doctor-progress").hidden = false;
  setText($("doctor-running"), t("doctor.running"));
  try {
    report = await post("v1/doctor");
    away = undefined;
    $("doctor-text-box").hidden = true;
    await draw();
  } finally {
    $("doctor-progress").hidden = true;
    setText($("doctor-running"), "");
  }
  $("doctor-verdict").focus();
}

// text is the report without names and secrets.
const text = async () => (away ??= await postText("v1/doctor/report"));

// copy shows the text too where the browser does not let it be copied.
async function copy() {
  const words = await text();
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    $("doctor-text-box").hidden = false;
    $("doctor-text").value = words;
    $("doctor-text").select();
    if (!document.execCommand("copy")) return inform(t("doctor.copy_yourself"));
  }
  inform(t("doctor.copied"));
}

async function save() {
  const url = URL.createObjectURL(new Blob([await text()], { type: "text/plain" }));
  el("a", { href: url, download: "kerbpass-report.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export function start() {
  onClick($("doctor"), check);
  onClick($("doctor-copy"), copy);
  onClick($("doctor-save"), save);
  onClick($("log"), async () => {
    await post("v1/log");
    inform(t("log.opened"));
  });
  onLanguage(() => { draw().catch(() => {}); });
}
