// A table that is wider than the screen scrolls in a frame, which Material makes. A keyboard can scroll it once it takes the focus.
window.addEventListener("load", () => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap")) {
    frame.tabIndex = 0;
  }
});
