// Corners of posed triangles in; places in the references and weights out, for each of REFERENCES.
// The caller prepends "#version 330" or "#version 300 es" and precision lines, REFERENCES and NEED (see the fragment
// shader).

uniform vec2 u_size;    // of the drawn picture, pixels
uniform float u_depth;  // what z is divided by, pixels

// A texel for each vertex of the mesh: pixels, y down, z away from the camera; the share of the mouth's dark.
uniform sampler2D u_vertices;
// A row for each vertex, a texel for each reference: where it lies in it (u, v), and its weight.
uniform sampler2D u_places, u_weights;

in uint a_vertex;
in uint a_references;  // four bits each

out vec2 v_place[REFERENCES];
out float v_weight[REFERENCES];
flat out uint v_references;
#if NEED == 2
out float v_cavity;
#endif

void main() {
    int vertex = int(a_vertex);
    vec4 there = texelFetch(u_vertices, ivec2(vertex, 0), 0);
    // y is not flipped: the first row of the frame buffer is the picture's top.
    gl_Position = vec4(2.0 * there.xy / u_size - 1.0, clamp(there.z / u_depth, -1.0, 1.0), 1.0);
    v_references = a_references;
#if NEED == 2
    v_cavity = there.w;
#endif
    for (int i = 0; i < REFERENCES; ++i) {
        ivec2 at = ivec2(int((a_references >> uint(4 * i)) & 15u), vertex);
        v_place[i] = texelFetch(u_places, at, 0).xy;
        v_weight[i] = texelFetch(u_weights, at, 0).x;
    }
}
