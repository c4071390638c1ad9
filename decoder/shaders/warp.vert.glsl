// Posed mesh vertices in, one texture coordinate and one weight per reference out.
// The caller prepends "#version 330" or "#version 300 es" and precision lines.

uniform vec2 u_size;    // of the drawn picture, pixels
uniform float u_depth;  // what z is divided by, pixels

in vec3 a_position;  // pixels, y down, z away from the camera
in float a_cavity;   // 0 to 1
in vec4 a_weight_0, a_weight_1;
in vec4 a_uv_01, a_uv_23, a_uv_45, a_uv_67;

out float v_cavity;
out vec4 v_weight_0, v_weight_1;
out vec4 v_uv_01, v_uv_23, v_uv_45, v_uv_67;

void main() {
    // y is not flipped: the first row of the frame buffer is the picture's top.
    gl_Position = vec4(2.0 * a_position.xy / u_size - 1.0, clamp(a_position.z / u_depth, -1.0, 1.0), 1.0);
    v_cavity = a_cavity;
    v_weight_0 = a_weight_0;
    v_weight_1 = a_weight_1;
    v_uv_01 = a_uv_01;
    v_uv_23 = a_uv_23;
    v_uv_45 = a_uv_45;
    v_uv_67 = a_uv_67;
}
