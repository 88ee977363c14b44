// Marks images as right or wrong, counts the marks, and keeps them in the browser's storage of this page.
const { captions, identity } = JSON.parse(document.getElementById("captions").textContent);
const count = document.getElementById("count");
const save = document.getElementById("save");
const items = [...document.querySelectorAll(".marked li")];
const storage = "dalle marks " + identity;
const read = () => {
  // A browser may forbid storage to a page that is opened as a file. Marks are then lost when the page is closed.
  try { return JSON.parse(localStorage.getItem(storage)) ?? {}; } catch { return {}; }
};
const keep = (marks) => {
  try { localStorage.setItem(storage, JSON.stringify(marks)); } catch { /* see above */ }
};
const marked = () => {
  const marks = {};
  items.forEach((item, index) => {
    const chosen = item.querySelector("input:checked");
    if (chosen) marks[captions[index]] = chosen.value;
  });
  return marks;
};
const update = () => {
  const marks = marked();
  const values = Object.values(marks);
  const of = (value) => values.filter((other) => other === value).length;
  count.textContent = `${of("right")} right, ${of("wrong")} wrong, ${captions.length - values.length} not marked, ` +
    `of ${captions.length}`;
  items.forEach((item, index) => {
    for (const value of ["right", "wrong"]) item.classList.toggle(value, marks[captions[index]] === value);
  });
  const lines = JSON.stringify({ identity, right: of("right"), wrong: of("wrong"), captions: captions.length, marks }, null, 2);
  save.href = "data:application/json;charset=utf-8," + encodeURIComponent(lines + "\n");
  keep(marks);
};
const show = (marks) => {
  items.forEach((item, index) => {
    for (const input of item.querySelectorAll("input")) input.checked = input.value === marks[captions[index]];
  });
  update();
};
document.querySelector(".marked").addEventListener("change", update);
document.getElementById("clear").addEventListener("click", () => show({}));
show(read());
