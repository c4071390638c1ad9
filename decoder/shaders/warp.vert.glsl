// Corners of posed triangles in; one place in a reference and one weight for each of REFERENCES out.
// The caller prepends "#version 330" or "#version 300 es" and precision lines, REFERENCES and NEED (see the fragment
// shader).

uniform vec2 u_size;    // of the drawn picture, pixels
uniform float u_depth;  // what z is divided by, pixels

in vec3 a_position;  // pixels, y down, z away from the camera
in float a_cavity;   // 0 to 1
in vec4 a_source_0, a_source_1, a_source_2, a_source_3;  // u, v, layer, weight
in vec4 a_source_4, a_source_5, a_source_6, a_source_7;

out vec4 v_source[REFERENCES];
#if NEED == 2
out float v_cavity;
#endif

void main() {
    // y is not flipped: the first row of the frame buffer is the picture's top.
    gl_Position = vec4(2.0 * a_position.xy / u_size - 1.0, clamp(a_position.z / u_depth, -1.0, 1.0), 1.0);
#if NEED == 2
    v_cavity = a_cavity;
#endif
    vec4 sources[8] = vec4[8](a_source_0, a_source_1, a_source_2, a_source_3,
                              a_source_4, a_source_5, a_source_6, a_source_7);
    for (int i = 0; i < REFERENCES; ++i) v_source[i] = sources[i];
}
