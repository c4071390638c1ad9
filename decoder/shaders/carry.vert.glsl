// How far each place of the grid has come since two ticks: the mesh as it is now, and where its vertices were.

uniform vec2 u_grid;    // pixels
uniform float u_depth;  // what z is divided by

in vec3 a_now;
in vec4 a_then;

out vec4 v_apart;  // grid pixels, x and y for each tick

void main() {
    v_apart = a_then - a_now.xyxy;
    gl_Position = vec4(2.0 * a_now.xy / u_grid - 1.0, clamp(a_now.z / u_depth, -1.0, 1.0), 1.0);
}
