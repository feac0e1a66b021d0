// Where a setting's value comes from, and whether it can be changed here.
import { el } from "./dom.js";
import { t } from "./texts.js";

// origin words where a value comes from; "" for what needs no word.
export function origin({ source, name, locked }) {
  if (source === "default" || source === "file" || !source) return "";
  return t(`source.${source}`, { name: name ?? "" }) + (locked ? ` ${t("source.locked")}` : "");
}

// lockable shows a setting's origin below its control and disables it where the
// value is decided elsewhere. The note is made when there is none.
export function lockable(control, setting, note) {
  note ??= document.getElementById(`${control.id}-source`);
  if (!note) {
    note = el("p", { className: "source", id: `${control.id}-source` });
    control.closest(".setting").append(note);
    control.setAttribute("aria-describedby", `${control.getAttribute("aria-describedby") ?? ""} ${note.id}`.trim());
  }
  note.textContent = origin(setting);
  control.disabled = Boolean(setting.locked);
}
